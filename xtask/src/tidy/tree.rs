//! The files of the repository.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What is not of the repository.
const OUTSIDE: [&str; 2] = ["target", ".git"];

/// Names that say nothing: what is in such a file belongs to an idea that has a name.
const SAYS_NOTHING: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "manager", "misc", "shared_utils", "stuff", "lib2"];

/// A file that holds text.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// From the root of the workspace, with `/`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

impl File {
    /// Whether it is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is Markdown.
    pub(crate) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }
}

/// Every text file below `root`, sorted.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let here = root.join(&folder);
        let entries = std::fs::read_dir(&here).with_context(|| format!("cannot list {}", here.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if OUTSIDE.iter().any(|outside| entry.file_name() == *outside) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = std::fs::read_to_string(root.join(&path))
            {
                found.push(File { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Files and folders whose name says nothing.
pub(crate) fn badly_named(files: &[File]) -> Vec<String> {
    let bad = |file: &&File| {
        file.path.split('/').any(|part| SAYS_NOTHING.contains(&part.split('.').next().unwrap_or_default()))
    };
    files.iter().filter(bad).map(|file| format!("{}: the name says nothing", file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_says_nothing_is_found_in_files_and_folders() {
        let file = |path: &str| File { path: path.to_owned(), text: String::new() };
        let files =
            [file("src/utils.rs"), file("src/common/mod.rs"), file("src/commonly.rs"), file("src/lock.rs")];
        assert_eq!(
            badly_named(&files),
            ["src/utils.rs: the name says nothing", "src/common/mod.rs: the name says nothing"]
        );
    }
}
