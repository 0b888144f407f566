//! Every feature of every library, alone and not at all: it must build without the others.

use xshell::Shell;

use crate::steps;
use crate::workspace::{Package, cargo};

/// Checks them.
pub(crate) fn check(sh: &Shell, packages: &[Package]) -> anyhow::Result<()> {
    for package in packages.iter().filter(|package| package.has_library && !package.features.is_empty()) {
        for features in combinations(package) {
            let shown = if features.is_empty() { "no feature" } else { &features };
            steps::say(&format!("{} with {shown}", package.name));
            let arguments =
                ["check", "--quiet", "--locked", "--lib", "-p", &package.name, "--no-default-features"];
            cargo(sh, &arguments).args(["--features", &features]).quiet().run()?;
        }
    }
    Ok(())
}

/// None, and each but `default`, which is checked wherever the package is used.
fn combinations(package: &Package) -> Vec<String> {
    let each = package.features.iter().filter(|feature| *feature != "default").cloned();
    std::iter::once(String::new()).chain(each).collect()
}
