//! Links between documents: each leads to a file that is there, and to a heading that is in it.

use std::collections::BTreeSet;
use std::path::Path;

use super::tree::File;

/// Links that lead nowhere, in Markdown and in the comments of code that name a file under `docs/`.
pub(crate) fn broken(root: &Path, files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        for (number, line) in prose(file) {
            let links: Vec<_> = if file.is_markdown() { targets(line) } else { Vec::new() };
            for link in links {
                if let Some(why) = broken_link(root, files, file, link) {
                    problems.push(format!("{}:{number}: the link {link} {why}", file.path));
                }
            }
            if file.is_rust() && line.trim_start().starts_with("//") {
                let missing = named_documents(line).filter(|name| !root.join(name).exists());
                problems.extend(missing.map(|name| format!("{}:{number}: there is no {name}", file.path)));
            }
        }
    }
    problems
}

/// The lines of a file with their numbers; of Markdown those outside code blocks.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    file.text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = file.is_markdown() && line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((index + 1, line))
    })
}

/// What stands in `](…)`, without a title.
fn targets(line: &str) -> Vec<&str> {
    let ends = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    ends.filter_map(|target| target.split_whitespace().next()).collect()
}

/// Every `docs/….md` that a line names.
fn named_documents(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("docs/").filter_map(|(at, _)| {
        let begins_a_path = !line.get(..at)?.ends_with(|c: char| c.is_alphanumeric() || "/._-".contains(c));
        let rest = line.get(at..)?;
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "/._-".contains(c))).unwrap_or(rest.len());
        let name = rest.get(..end)?.trim_end_matches('.');
        (begins_a_path && name.ends_with(".md")).then_some(name)
    })
}

fn broken_link(root: &Path, files: &[File], from: &File, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { Some(from.path.clone()) } else { resolved(&from.path, path) };
    let Some(target) = target.filter(|target| root.join(target).exists()) else {
        return Some("leads to no file".to_owned());
    };
    let document = files.iter().find(|file| file.path == target && file.is_markdown());
    let known = document.is_none_or(|file| heading.is_empty() || headings(file).contains(heading));
    (!known).then(|| format!("leads to no heading of {target}"))
}

/// `link` as seen from the file `from`, from the root; `None` if it leads out of it.
fn resolved(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<_> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The headings of a document as links spell them.
fn headings(file: &File) -> BTreeSet<String> {
    let lines = prose(file).filter_map(|(_, line)| line.strip_prefix('#'));
    lines.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn links_to_files_and_headings_are_followed() {
        let root = tempdir();
        std::fs::create_dir_all(root.join("docs")).unwrap();
        std::fs::write(root.join("docs/guide.md"), "").unwrap();
        std::fs::write(root.join("README.md"), "").unwrap();
        let files = [
            file(
                "README.md",
                "[a](docs/guide.md#the-vault-file) [b](docs/none.md) [c](https://example.com/x)\n",
            ),
            file(
                "docs/guide.md",
                "# Guide\n## The vault file\n```\n[d](nowhere)\n```\n[e](../README.md) [f](#no)\n",
            ),
            file(
                "src/lib.rs",
                "//! See docs/guide.md and `docs/gone.md`, not https://example.com/docs/x.md.\n",
            ),
        ];
        let found = broken(&root, &files);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            found,
            [
                "README.md:1: the link docs/none.md leads to no file",
                "docs/guide.md:6: the link #no leads to no heading of docs/guide.md",
                "src/lib.rs:1: there is no docs/gone.md",
            ]
        );
    }

    #[test]
    fn a_link_out_of_the_repository_leads_nowhere() {
        assert_eq!(resolved("docs/a.md", "../../x.md"), None);
        assert_eq!(resolved("docs/a.md", "./b/../c.md").as_deref(), Some("docs/c.md"));
    }

    fn tempdir() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-links-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
