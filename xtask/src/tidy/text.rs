//! What may not stand in a file.

use std::path::Path;

use super::tree::File;

/// Lines that may not be there, each with the reason.
pub(crate) fn problems(root: &Path, files: &[File]) -> Vec<String> {
    let rules = rules(root);
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            for rule in rules.iter().filter(|rule| !rule.rust_only || file.is_rust()) {
                if rule.is_broken_by(line) {
                    problems.push(format!("{}:{}: {}", file.path, number + 1, rule.why));
                }
            }
        }
    }
    problems
}

struct Rule {
    text: String,
    why: &'static str,
    rust_only: bool,
    /// Whether it only counts where it begins a path.
    is_path: bool,
}

impl Rule {
    fn is_broken_by(&self, line: &str) -> bool {
        line.match_indices(&self.text).any(|(at, _)| {
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            !self.is_path || !before.is_some_and(|c| c.is_alphanumeric() || "._-/~}".contains(c))
        })
    }
}

/// Put together from parts: this file is read too.
fn rules(root: &Path) -> Vec<Rule> {
    let code = |text: String, why| Rule { text, why, rust_only: true, is_path: false };
    let path = |text: String| Rule { text, why: "a path of one machine", rust_only: false, is_path: true };
    let mut rules = vec![
        code(["todo", "!("].concat(), "unfinished code"),
        code(["unimplemented", "!("].concat(), "unfinished code"),
        code(["#[", "ignore"].concat(), "a test that never runs"),
        path(["/wo", "rk/"].concat()),
        path(["/ro", "ot/"].concat()),
        path(["/Us", "ers/"].concat()),
    ];
    // This checkout's own folder, and its owner's.
    let here = [Some(root.to_string_lossy().into_owned()), std::env::var("HOME").ok()];
    rules.extend(here.into_iter().flatten().filter(|folder| folder.len() > 1).map(path));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_and_paths_of_a_machine_are_found_with_their_line() {
        let ignored = ["#[", "ignore]"].concat();
        let unfinished = ["todo", "!()"].concat();
        let home = ["/Us", "ers/ada/x"].concat();
        let rust =
            File { path: "a.rs".to_owned(), text: format!("fine\n{ignored}\n{unfinished}\n// {home}\n") };
        let page =
            File { path: "a.md".to_owned(), text: format!("{unfinished}\nhttps://example.com{home}\n") };
        assert_eq!(
            problems(Path::new("/"), &[rust, page]),
            ["a.rs:2: a test that never runs", "a.rs:3: unfinished code", "a.rs:4: a path of one machine"]
        );
    }
}
