//! `cargo xtask test`.

use std::path::Path;

use clap::Args;
use xshell::Shell;

use crate::build::{Binaries, WHOLE};
use crate::needs;
use crate::steps::{self, Steps};
use crate::suites::{self, Selection};
use crate::workspace::{self, Package, cargo, has_program, in_ci};

/// A suite that hangs in CI is ended after this many seconds, with the names of the tests that it had left.
const CI_LIMIT_S: &str = "1200";

/// Run the tests: all of them, or the suites that are named.
///
/// A suite is an integration test (`vault`, `race`, …), a package (`store`, `session`, …) with all its tests, or `doc`,
/// the doc tests of all libraries. What a suite needs of the system is installed through apt where that is possible;
/// else the suite is skipped with a line that says so, and in CI (the variable CI is set) that is a failure.
#[derive(Args, Debug)]
pub(crate) struct Test {
    /// List the suites
    #[arg(long)]
    list: bool,
    /// Suites to run; all if none is named
    suites: Vec<String>,
    /// What the test programs are given, such as a part of a test's name
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        let packages = workspace::packages(sh)?;
        if self.list {
            suites::all(&packages).iter().for_each(|name| steps::say(name));
            return Ok(());
        }
        let mut steps = Steps::default();
        if self.suites.is_empty() {
            tests(sh, &mut steps, &packages, &self.arguments)?;
            doc_tests(sh, &mut steps)?;
        } else {
            chosen(sh, &mut steps, &packages, &self)?;
        }
        steps.summary();
        Ok(())
    }
}

/// Builds everything, and runs every test but the doc tests.
pub(crate) fn tests(
    sh: &Shell,
    steps: &mut Steps,
    packages: &[Package],
    arguments: &[String],
) -> anyhow::Result<Binaries> {
    let every: Vec<_> = packages.iter().flat_map(|package| &package.tests).map(String::as_str).collect();
    // A suite that is left out knows by itself that it cannot run.
    steps.run("what the suites need", || needs::provide(sh, &every.into_iter().collect()).map(drop))?;
    let binaries = built(sh, steps)?;
    steps.run("test", || cargo_test(sh, &binaries, &["--bins", "--lib", "--tests"], arguments))?;
    Ok(binaries)
}

/// Runs the doc tests of all libraries.
pub(crate) fn doc_tests(sh: &Shell, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("doc tests", || {
        let arguments = [&["test"], &WHOLE[..], &["--doc"]].concat();
        Ok(cargo(sh, &arguments).run()?)
    })
}

fn chosen(sh: &Shell, steps: &mut Steps, packages: &[Package], task: &Test) -> anyhow::Result<()> {
    let selection = Selection::of(&task.suites, packages)?;
    let wanted = selection.integration_tests(packages);
    let mut left_out = Default::default();
    steps.run("what the suites need", || {
        left_out = needs::provide(sh, &wanted)?;
        Ok(())
    })?;
    let tests: Vec<_> = selection.tests.iter().filter(|test| !left_out.contains(test.as_str())).collect();
    if tests.is_empty() && selection.packages.is_empty() && !selection.doc {
        return Ok(());
    }
    let binaries = built(sh, steps)?;
    if !tests.is_empty() {
        let chosen: Vec<_> = tests.iter().flat_map(|test| ["--test", test.as_str()]).collect();
        steps.run("test", || cargo_test(sh, &binaries, &chosen, &task.arguments))?;
    }
    for package in &selection.packages {
        steps.run(&format!("test {package}"), || {
            let arguments = ["test", "--locked", "--all-features", "-p", package, "--"];
            let command = cargo(sh, &arguments).args(&task.arguments);
            Ok(with_environment(command, &binaries)?.run()?)
        })?;
    }
    if selection.doc {
        doc_tests(sh, steps)?;
    }
    Ok(())
}

fn built(sh: &Shell, steps: &mut Steps) -> anyhow::Result<Binaries> {
    let mut built = None;
    steps.run("build", || {
        built = Some(Binaries::whole_workspace(sh)?);
        Ok(())
    })?;
    built.ok_or_else(|| anyhow::anyhow!("the build left nothing"))
}

fn cargo_test(sh: &Shell, binaries: &Binaries, chosen: &[&str], arguments: &[String]) -> anyhow::Result<()> {
    let cargo_arguments = [&["test"], &WHOLE[..], &["--no-fail-fast"], chosen, &["--"]].concat();
    let command = if in_ci() && has_program("timeout") {
        let limited = [&["--kill-after=30", CI_LIMIT_S, "cargo"], &cargo_arguments[..]].concat();
        sh.cmd("timeout").args(limited)
    } else {
        cargo(sh, &cargo_arguments)
    };
    Ok(with_environment(command.args(arguments), binaries)?.run()?)
}

fn with_environment<'a>(command: xshell::Cmd<'a>, binaries: &Binaries) -> anyhow::Result<xshell::Cmd<'a>> {
    let command = command
        .env("TOKENKEEP_BIN", binaries.path("tokenkeep")?)
        .env("MOCK_AUTH0_BIN", binaries.path("mock-auth0")?)
        // They stand beside each other.
        .env("TOKENKEEP_EXAMPLES", binaries.path("first")?.parent().unwrap_or(Path::new("")));
    Ok(if in_ci() { command.env("TOKENKEEP_REQUIRE_SUITES", "1") } else { command })
}
