//! Programs of the system that a suite needs, and getting them through apt.

use std::collections::BTreeSet;

use xshell::{Shell, cmd};

use crate::steps;
use crate::workspace::{has_program, in_ci};

/// What one suite needs.
struct Need {
    suite: &'static str,
    program: &'static str,
    /// The Debian package that has it.
    package: &'static str,
}

const NEEDS: [Need; 3] = [
    // A Secret Service on a bus of its own.
    Need { suite: "keychain", program: "dbus-run-session", package: "dbus-daemon" },
    Need { suite: "keychain", program: "gnome-keyring-daemon", package: "gnome-keyring" },
    // Shows which system calls touch a vault.
    Need { suite: "strace", program: "strace", package: "strace" },
];

/// Gets what these suites need, and gives those that must be left out all the same. Each of them was told in a line.
///
/// # Errors
///
/// In CI, where nothing is left out, if something cannot be had.
pub(crate) fn provide<'a>(sh: &Shell, suites: &BTreeSet<&'a str>) -> anyhow::Result<BTreeSet<&'a str>> {
    let missing = |suite: &str| -> Vec<&Need> {
        NEEDS.iter().filter(|need| need.suite == suite && !has_program(need.program)).collect()
    };
    let packages: BTreeSet<_> =
        suites.iter().flat_map(|suite| missing(suite)).map(|need| need.package).collect();
    if packages.is_empty() {
        return Ok(BTreeSet::new());
    }
    let trouble = install(sh, &packages).err().map(|error| format!(" ({error:#})")).unwrap_or_default();
    let mut left_out = BTreeSet::new();
    for suite in suites {
        let Some(need) = missing(suite).first().copied() else { continue };
        let why = format!("it needs {} of the package {}{trouble}", need.program, need.package);
        anyhow::ensure!(!in_ci(), "the suite {suite} cannot run: {why}");
        steps::say(&format!("the suite {suite} is skipped: {why}"));
        left_out.insert(*suite);
    }
    Ok(left_out)
}

fn install(sh: &Shell, packages: &BTreeSet<&str>) -> anyhow::Result<()> {
    anyhow::ensure!(has_program("apt-get"), "there is no apt-get here");
    let sudo: &[&str] = if cmd!(sh, "id -u").quiet().read()? == "0" {
        &[]
    } else {
        let free = has_program("sudo") && cmd!(sh, "sudo -n true").quiet().ignore_stderr().run().is_ok();
        anyhow::ensure!(free, "installing it needs root, or sudo without a password");
        &["sudo", "-n"]
    };
    let environment = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"];
    let apt: Vec<_> = sudo.iter().chain(&environment).copied().collect();
    let (program, apt) = apt.split_first().map_or(("env", &apt[..]), |(first, rest)| (*first, rest));
    // A package may be missing from lists that are old, or that were never fetched.
    cmd!(sh, "{program} {apt...} update").run()?;
    cmd!(sh, "{program} {apt...} install --no-install-recommends {packages...}").run()?;
    Ok(())
}
