//! `docs/parity.md`: every case that peers' suites and users taught us, and where it is held.
//!
//! A row is `| CM-59 | what happens | where |`. *Where* is one of: the test files that hold it, each in backticks, with
//! the case's name in a comment there, or a test as `file::name`; `no: ` and the reason why it does not apply; `later: `
//! and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;

use super::tree::File;
use crate::workspace;

const PAGE: &str = "docs/parity.md";
/// What a row says that nobody has answered.
const OPEN: &str = "open";
/// The families of cases, and how many there are of each: a row cannot go unnoticed.
const FAMILIES: [(&str, usize); 5] = [("CM", 142), ("AM", 57), ("SK", 21), ("IDT", 59), ("L1", 6)];

/// What is wrong with the table.
pub(crate) fn problems(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return vec![format!("{PAGE} is missing")];
    };
    let held = held(files);
    let mut problems = Vec::new();
    let mut rows: BTreeMap<Case, usize> = BTreeMap::new();
    for row in page.text.lines().filter_map(Row::read) {
        *rows.entry(row.case.clone()).or_default() += 1;
        let held = held.get(&row.case);
        let (by_hand, told): (BTreeSet<_>, BTreeSet<_>) = row.tests().partition(|test| test.contains("::"));
        let gone = by_hand.iter().find(|test| !has_test(files, test));
        let problem = if let Some(gone) = gone {
            problems.push(format!("{PAGE}: {}: there is no test {gone}", row.case));
            continue;
        } else if told.is_empty() && !by_hand.is_empty() && held.is_none() {
            continue;
        } else if told.is_empty() && by_hand.is_empty() {
            match row.place.split_once(": ") {
                Some(("no" | "later", why)) if !why.trim().is_empty() && held.is_none() => continue,
                Some(("no" | "later", _)) if held.is_some() => {
                    "a test holds it, and the table does not say so"
                }
                _ => "no test holds it, and the table does not say why",
            }
        } else if held.is_some_and(|held| held.iter().map(String::as_str).eq(told)) {
            continue;
        } else {
            "the table names other tests than those that name it; `cargo xtask tidy --write` mends that"
        };
        problems.push(format!("{PAGE}: {}: {problem}", row.case));
    }
    let twice = rows.iter().filter(|(_, count)| **count > 1);
    problems.extend(twice.map(|(case, _)| format!("{PAGE}: {case} stands there twice")));
    let unknown = held.iter().filter(|(case, _)| !rows.contains_key(*case));
    problems
        .extend(unknown.map(|(case, at)| format!("{}: {PAGE} has no case {case}", Vec::from_iter(at)[0])));
    for (family, count) in FAMILIES {
        let found = rows.keys().filter(|case| case.family == family).count();
        if found != count {
            problems.push(format!("{PAGE}: {found} cases {family}, and there are {count}"));
        }
    }
    problems
}

/// Writes into the table which tests hold each case.
pub(crate) fn write(files: &[File]) -> anyhow::Result<()> {
    let page = files.iter().find(|file| file.path == PAGE).with_context(|| format!("{PAGE} is missing"))?;
    let text = rewritten(&page.text, &held(files));
    std::fs::write(workspace::root().join(PAGE), text).with_context(|| format!("cannot write {PAGE}"))
}

fn rewritten(text: &str, held: &BTreeMap<Case, BTreeSet<String>>) -> String {
    let lines = text.lines().map(|line| {
        let Some(row) = Row::read(line) else { return line.to_owned() };
        let by_comment = held.get(&row.case).into_iter().flatten().map(String::as_str);
        let by_hand = row.tests().filter(|test| test.contains("::"));
        let tests: Vec<_> = by_comment.chain(by_hand).map(|test| format!("`{test}`")).collect();
        let place = match row.tests().next() {
            _ if !tests.is_empty() => tests.join(" "),
            Some(_) => OPEN.to_owned(),
            None => row.place.to_owned(),
        };
        format!("| {} | {} | {place} |", row.case, row.what)
    });
    lines.map(|line| line + "\n").collect()
}

/// A case's name, such as CM-59.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    family: String,
    number: u32,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.family, self.number)
    }
}

impl Case {
    fn read(text: &str) -> Option<Self> {
        let (family, number) = text.split_once('-')?;
        let known = FAMILIES.iter().any(|(name, _)| *name == family);
        known.then(|| number.parse().ok())?.map(|number| Self { family: family.to_owned(), number })
    }

    /// Every case that a text names.
    fn all_in(text: &str) -> impl Iterator<Item = Self> {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter_map(Self::read)
    }
}

struct Row<'a> {
    case: Case,
    what: &'a str,
    place: &'a str,
}

impl<'a> Row<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
        let case = Case::read(cells.next()?)?;
        let (what, place) = (cells.next()?, cells.next()?);
        cells.next().is_none().then_some(Self { case, what, place })
    }

    /// The test files that it names.
    fn tests(&self) -> impl Iterator<Item = &'a str> {
        self.place.split('`').skip(1).step_by(2)
    }
}

/// Whether there is a test `file::name`.
fn has_test(files: &[File], test: &str) -> bool {
    test.split_once("::").is_some_and(|(path, name)| {
        let function = format!("fn {name}(");
        files.iter().any(|file| file.path == path && file.text.contains(&function))
    })
}

/// The cases that comments of tests name, and the files of those comments.
fn held(files: &[File]) -> BTreeMap<Case, BTreeSet<String>> {
    let mut held: BTreeMap<Case, BTreeSet<String>> = BTreeMap::new();
    let ours = |file: &&File| file.is_rust() && !file.path.starts_with("xtask/");
    for file in files.iter().filter(ours) {
        for (_, comment) in file.text.lines().filter_map(|line| line.split_once("//")) {
            for case in Case::all_in(comment) {
                held.entry(case).or_default().insert(file.path.clone());
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn of(problems: &[String], case: &str) -> Vec<String> {
        problems.iter().filter(|problem| problem.contains(case)).cloned().collect()
    }

    #[test]
    fn a_row_names_the_tests_that_name_it_or_says_why_not() {
        let page = file(
            PAGE,
            "| CM-1 | a | `tests/a.rs` |\n| CM-2 | b | no: a phone's |\n| CM-3 | c | open |\n| CM-5 | d | `tests/b.rs` |\n\
             | CM-6 | e | later: |\n| CM-7 | f | no: not here |\n| CM-9 | g | `tests/a.rs::held` |\n\
             | CM-10 | h | `tests/a.rs::gone` |\n",
        );
        let tests = file("tests/a.rs", "// CM-1, CM-7; and CM-999\nlet x = \"CM-3\";\nfn held() {}\n");
        let problems = problems(&[page, tests]);
        assert!(of(&problems, "CM-1:").is_empty() && of(&problems, "CM-2:").is_empty(), "{problems:?}");
        for (case, why) in
            [("CM-3:", "no test"), ("CM-5:", "other tests"), ("CM-6:", "no test"), ("CM-7:", "a test")]
        {
            assert!(of(&problems, case)[0].contains(why), "{problems:?}");
        }
        assert_eq!(of(&problems, "CM-999"), ["tests/a.rs: docs/parity.md has no case CM-999"]);
        assert_eq!(of(&problems, "cases SK"), ["docs/parity.md: 0 cases SK, and there are 21"]);
    }

    #[test]
    fn tests_are_written_into_the_table_and_the_rest_stays() {
        let page = "# Cases\n| case | what | where |\n|---|---|---|\n| CM-1 | a | open |\n| CM-2 | b | `gone.rs` |\n| CM-3 | c | no: x |\n| CM-5 | d | `c.rs::e` |\n";
        let held = held(&[file("tests/b.rs", "    // CM-1\n"), file("tests/a.rs", "x(); // CM-1, CM-1\n")]);
        assert_eq!(
            rewritten(page, &held),
            "# Cases\n| case | what | where |\n|---|---|---|\n| CM-1 | a | `tests/a.rs` `tests/b.rs` |\n\
             | CM-2 | b | open |\n| CM-3 | c | no: x |\n| CM-5 | d | `c.rs::e` |\n"
        );
    }
}
