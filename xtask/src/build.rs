//! Building what tests and the demo start.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;
use xshell::Shell;

use crate::workspace::cargo;

/// What every build, test and lint of the whole workspace is given, so that they share what they compile.
pub(crate) const WHOLE: [&str; 3] = ["--locked", "--workspace", "--all-features"];

/// The programs that a build made, by name.
#[derive(Debug)]
pub(crate) struct Binaries(BTreeMap<String, PathBuf>);

impl Binaries {
    /// Builds every program, every example and every test of the workspace.
    pub(crate) fn whole_workspace(sh: &Shell) -> anyhow::Result<Self> {
        Self::build(sh, &[&WHOLE[..], &["--bins", "--examples", "--tests"]].concat())
    }

    /// Builds the programs of these packages alone, with their default features.
    pub(crate) fn of_packages(sh: &Shell, packages: &[&str], profile: &[&str]) -> anyhow::Result<Self> {
        let chosen: Vec<_> = packages.iter().flat_map(|package| ["-p", package]).collect();
        Self::build(sh, &[&["--locked", "--bins"], profile, &chosen[..]].concat())
    }

    /// Where a program is.
    pub(crate) fn path(&self, name: &str) -> anyhow::Result<&PathBuf> {
        self.0.get(name).with_context(|| format!("the build made no program `{name}`"))
    }

    fn build(sh: &Shell, arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments = [&["build", "--message-format", "json-render-diagnostics"], arguments].concat();
        let messages = cargo(sh, &arguments).read()?;
        Ok(Self(messages.lines().filter_map(program).collect()))
    }
}

/// Name and path of the program or example that a line of cargo's tells of. One built as its own test is not meant.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    let is_program = |kind: &Value| matches!(kind.as_str(), Some("bin" | "example"));
    if !target["kind"].as_array()?.iter().any(is_program) || message["profile"]["test"].as_bool()? {
        return None;
    }
    Some((target["name"].as_str()?.to_owned(), PathBuf::from(message["executable"].as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_its_test_and_from_libraries() {
        let line = |kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"tokenkeep"}},
                "profile":{{"test":{test}}},"executable":"/x/debug/tokenkeep"}}"#
            )
        };
        assert_eq!(
            program(&line("bin", false)),
            Some(("tokenkeep".to_owned(), PathBuf::from("/x/debug/tokenkeep")))
        );
        assert!(program(&line("example", false)).is_some());
        assert_eq!(program(&line("bin", true)), None);
        assert_eq!(program(&line("test", true)), None);
        assert_eq!(program(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
