//! Where the workspace is and what is in it.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;
use xshell::{Cmd, Shell, cmd};

/// Variables that `cargo run` sets for this program. A build script that watches one of them would be run again by
/// each cargo that is started from here.
const OF_CARGO_RUN: [&str; 9] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_AUTHORS",
    "CARGO_PKG_DESCRIPTION",
    "CARGO_PKG_NAME",
    "CARGO_PKG_RUST_VERSION",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
];

/// A shell that stands at the root of the workspace.
pub(crate) fn shell() -> anyhow::Result<Shell> {
    let sh = Shell::new().context("cannot tell the current folder")?;
    sh.change_dir(root());
    Ok(sh)
}

/// Cargo with these arguments, as if it were started from a terminal.
pub(crate) fn cargo<'a>(sh: &'a Shell, arguments: &[&str]) -> Cmd<'a> {
    OF_CARGO_RUN.iter().fold(cmd!(sh, "cargo {arguments...}"), |command, name| command.env_remove(name))
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(PathBuf::from).unwrap_or(own)
}

/// Whether this is a run of CI, where nothing may be left out.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Whether `program` is on the search path.
pub(crate) fn has_program(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// A package of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its features, `default` among them if there is one.
    pub(crate) features: Vec<String>,
    /// Whether it has a library.
    pub(crate) has_library: bool,
    /// Its integration tests.
    pub(crate) tests: Vec<String>,
}

/// Every package of the workspace.
pub(crate) fn packages(sh: &Shell) -> anyhow::Result<Vec<Package>> {
    let text = cargo(sh, &["metadata", "--locked", "--no-deps", "--format-version", "1"]).quiet().read()?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata cannot be read")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages.iter().map(package).collect())
}

fn package(value: &Value) -> Package {
    let targets = |kind: &str| -> Vec<String> {
        let of_kind = |target: &&Value| {
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k.as_str() == Some(kind)))
        };
        let targets = value["targets"].as_array().into_iter().flatten().filter(of_kind);
        targets.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect()
    };
    Package {
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        features: value["features"].as_object().into_iter().flat_map(|map| map.keys().cloned()).collect(),
        has_library: !targets("lib").is_empty(),
        tests: targets("test"),
    }
}
