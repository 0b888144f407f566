//! What a suite needs of the system, and getting it through apt.

use std::collections::BTreeSet;

use xshell::{Shell, cmd};

use crate::steps;
use crate::workspace::{has_program, in_ci};

/// What one suite needs.
struct Need {
    suite: &'static str,
    thing: Thing,
    /// The Debian package that has it.
    package: &'static str,
}

/// What can be needed.
enum Thing {
    /// A program on the search path.
    Program(&'static str),
    /// That a Python of this machine runs a script with `--check`: the modules that it imports are there.
    Python { script: &'static str, modules: &'static str },
}

const SECOND_READER: Thing = Thing::Python {
    script: "crates/store/tests/second_reader/reader.py",
    modules: "the modules cryptography and argon2 for python3",
};

const NEEDS: [Need; 12] = [
    // A Secret Service on a bus of its own.
    Need { suite: "keychain", thing: Thing::Program("dbus-run-session"), package: "dbus-daemon" },
    Need { suite: "keychain", thing: Thing::Program("gnome-keyring-daemon"), package: "gnome-keyring" },
    // Keys as people have them, and a second reader of what is wrapped to them.
    Need { suite: "ssh", thing: Thing::Program("ssh-keygen"), package: "openssh-client" },
    Need { suite: "ssh", thing: Thing::Program("age"), package: "age" },
    Need { suite: "keys", thing: Thing::Program("ssh-keygen"), package: "openssh-client" },
    Need { suite: "keys", thing: Thing::Program("age"), package: "age" },
    Need { suite: "stock_age", thing: Thing::Program("age"), package: "age" },
    Need { suite: "server", thing: Thing::Program("ssh-keygen"), package: "openssh-client" },
    // A terminal of its own.
    Need { suite: "terminal", thing: Thing::Program("script"), package: "bsdutils" },
    // The second reader of the vault file. Either package brings Python with it.
    Need { suite: "second_reader", thing: SECOND_READER, package: "python3-cryptography" },
    Need { suite: "second_reader", thing: SECOND_READER, package: "python3-argon2" },
    // Shows which system calls touch a vault.
    Need { suite: "strace", thing: Thing::Program("strace"), package: "strace" },
];

impl Thing {
    fn is_there(&self, sh: &Shell) -> bool {
        match self {
            Self::Program(program) => has_program(program),
            // The first on the search path may be one that apt's packages are not for.
            Self::Python { script, .. } => ["python3", "/usr/bin/python3"]
                .into_iter()
                .any(|python| cmd!(sh, "{python} {script} --check").quiet().ignore_stderr().run().is_ok()),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Program(program) => program,
            Self::Python { modules, .. } => modules,
        }
    }
}

/// Gets what these suites need, and gives those that must be left out all the same. Each of them was told in a line.
///
/// # Errors
///
/// In CI, where nothing is left out, if something cannot be had.
pub(crate) fn provide<'a>(sh: &Shell, suites: &BTreeSet<&'a str>) -> anyhow::Result<BTreeSet<&'a str>> {
    let missing = |suite: &str| -> Vec<&Need> {
        NEEDS.iter().filter(|need| need.suite == suite && !need.thing.is_there(sh)).collect()
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
        let why = format!("it needs {} of the package {}{trouble}", need.thing.name(), need.package);
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
