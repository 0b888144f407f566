//! `cargo xtask ci`: what `.ci/run` calls, on every change.

use anyhow::Context as _;
use clap::Args;
use xshell::{Shell, cmd};

use crate::build::WHOLE;
use crate::steps::Steps;
use crate::workspace::{self, cargo, has_program};
use crate::{demo, features, prove, test, tidy};

/// Run everything that must pass: tests, format, lints, docs, dependencies, the demo.
///
/// Stops at the first failure. Prints the time of each step.
#[derive(Args, Debug)]
pub(crate) struct Ci {}

impl Ci {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        let packages = workspace::packages(sh)?;
        let mut steps = Steps::default();
        let binaries = test::tests(sh, &mut steps, &packages, &[])?;
        steps.run("fmt", || Ok(cmd!(sh, "cargo fmt --all --check").run()?))?;
        steps.run("tidy", || tidy::check(sh))?;
        // That each test then fails is shown by `cargo xtask prove`, which takes many builds.
        steps.run("broken invariants still apply", || prove::check(sh))?;
        steps.run("clippy", || {
            let arguments = [&["clippy"], &WHOLE[..], &["--all-targets", "--", "-D", "warnings"]].concat();
            Ok(cargo(sh, &arguments).run()?)
        })?;
        test::doc_tests(sh, &mut steps)?;
        steps.run("docs", || {
            // Libraries alone: a program and a library of one name would write the same page.
            let arguments = [&["doc"], &WHOLE[..], &["--no-deps", "--lib"]].concat();
            Ok(cargo(sh, &arguments).env("RUSTDOCFLAGS", "-D warnings").run()?)
        })?;
        steps.run("features", || features::check(sh, &packages))?;
        steps.run("fuzz targets", || {
            // That what they call compiles, the test fuzz_corpus shows. Building libFuzzer too would take minutes.
            let tree = ["tree", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"];
            let current = cargo(sh, &tree).ignore_stdout().run();
            current.context(
                "fuzz/Cargo.lock must follow: `cargo update --workspace --manifest-path fuzz/Cargo.toml`",
            )
        })?;
        steps.run_or_skip("deny", || {
            if !has_program("cargo-deny") {
                return Ok(Some("cargo-deny is not installed".to_owned()));
            }
            // Advisories are left to a run of their own: they change without the code, and need the network.
            cmd!(sh, "cargo deny --all-features check bans licenses sources").run()?;
            Ok(None)
        })?;
        steps.run("demo", || demo::show(sh, &binaries))?;
        steps.summary();
        Ok(())
    }
}
