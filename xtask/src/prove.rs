//! `cargo xtask prove`: the tests of what always holds fail when it is broken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use xshell::{Shell, cmd};

use crate::steps::Steps;
use crate::workspace::{cargo, has_program, root};

/// Where the patches are.
const BROKEN: &str = "tests/broken";
/// A test that a broken invariant makes wait for ever is not one that fails.
const LIMIT_S: &str = "300";

/// Break what always holds, one thing at a time, and require that the test which is named for it fails.
///
/// Each file in tests/broken is a patch that breaks one invariant of the renewal protocol, and begins with the invariant and
/// the test that must then fail. It is applied to a copy of the workspace (in target/prove). First all those tests are run
/// on the unbroken copy: a test that fails anyway proves nothing.
#[derive(Args, Debug)]
pub(crate) struct Prove {
    /// Only see that each patch applies and that its test exists, which takes no time
    #[arg(long)]
    check: bool,
    /// Patches, by a part of their names; all if none is given
    patches: Vec<String>,
}

impl Prove {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        let mut patches = Patch::all(sh)?;
        patches.retain(|patch| {
            self.patches.is_empty() || self.patches.iter().any(|part| patch.name.contains(part.as_str()))
        });
        anyhow::ensure!(!patches.is_empty(), "no patch in {BROKEN} has such a name");
        let copy = Copy::of_workspace(sh)?;
        patches.iter().try_for_each(|patch| copy.check(patch))?;
        if self.check {
            return Ok(());
        }
        let mut steps = Steps::default();
        let tests: BTreeSet<&Named> = patches.iter().map(|patch| &patch.fails).collect();
        for test in tests {
            steps.run(&format!("unbroken: {}", test.name), || match copy.run(test)? {
                Ran::Passed => Ok(()),
                other => anyhow::bail!("{} {other} on the unbroken workspace", test.name),
            })?;
        }
        for patch in &patches {
            steps.run(&format!("{}: {}", patch.name, patch.invariant), || copy.prove(patch))?;
        }
        steps.summary();
        Ok(())
    }
}

/// Sees that every patch applies and that its test exists.
pub(crate) fn check(sh: &Shell) -> anyhow::Result<()> {
    Prove { check: true, patches: Vec::new() }.run(sh)
}

/// A test, as cargo is told of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    package: String,
    /// The integration test, or `lib`.
    suite: String,
    name: String,
}

/// A way to break an invariant.
#[derive(Debug)]
struct Patch {
    name: String,
    file: PathBuf,
    invariant: String,
    fails: Named,
}

impl Patch {
    fn all(sh: &Shell) -> anyhow::Result<Vec<Self>> {
        let files = sh.read_dir(BROKEN).with_context(|| format!("{BROKEN} cannot be listed"))?;
        let patches = files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "patch"));
        patches.map(|file| Self::read(sh, file)).collect()
    }

    fn read(sh: &Shell, file: PathBuf) -> anyhow::Result<Self> {
        let text = sh.read_file(&file)?;
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let header = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.map(str::trim).with_context(|| format!("{BROKEN}/{name}.patch has no line `{key}`"))
        };
        let fails: Vec<&str> = header("Fails:")?.split_whitespace().collect();
        let [package, suite, test] = fails[..] else {
            anyhow::bail!(
                "`Fails:` of {BROKEN}/{name}.patch names a package, a suite (or `lib`), and a test"
            );
        };
        let fails = Named { package: package.to_owned(), suite: suite.to_owned(), name: test.to_owned() };
        let invariant = header("Invariant:")?.to_owned();
        Ok(Self { name, invariant, fails, file })
    }
}

/// What became of a test.
#[derive(Debug, PartialEq, Eq)]
enum Ran {
    Passed,
    Failed,
    DidNotRun(String),
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passed => f.write_str("passes"),
            Self::Failed => f.write_str("fails"),
            Self::DidNotRun(output) => write!(f, "does not run:\n{output}"),
        }
    }
}

/// A copy of the workspace's tracked files, as they are now.
struct Copy {
    sh: Shell,
    target: PathBuf,
}

impl Copy {
    fn of_workspace(sh: &Shell) -> anyhow::Result<Self> {
        let place = root().join("target").join("prove");
        let (tree, target) = (place.join("tree"), place.join("target"));
        let tracked = cmd!(sh, "git ls-files -z --cached --others --exclude-standard").quiet().read()?;
        let tracked: BTreeSet<PathBuf> =
            tracked.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        if sh.path_exists(&tree) {
            remove_others(sh, &tree, &tree, &tracked)?;
        }
        for path in tracked.iter().filter(|path| root().join(path).is_file()) {
            let (from, to) = (root().join(path), tree.join(path));
            let bytes = sh.read_binary_file(&from)?;
            // What is the same stays as it is, so that cargo does not build it anew.
            if !sh.path_exists(&to) || sh.read_binary_file(&to)? != bytes {
                sh.create_dir(to.parent().unwrap_or(&tree))?;
                sh.copy_file(&from, &to)?;
            }
        }
        let sh = sh.clone();
        sh.change_dir(&tree);
        sh.set_var("CARGO_TARGET_DIR", &target);
        // Else git takes the copy for a part of the repository around it, and applies nothing.
        sh.set_var("GIT_CEILING_DIRECTORIES", &place);
        Ok(Self { sh, target })
    }

    fn check(&self, patch: &Patch) -> anyhow::Result<()> {
        let (sh, file, test) = (&self.sh, &patch.file, &patch.fails);
        let applies = cmd!(sh, "git apply --check {file}").quiet().ignore_status().output()?;
        anyhow::ensure!(
            applies.status.success(),
            "{BROKEN}/{}.patch no longer applies; make it anew from what it says it breaks:\n{}",
            patch.name,
            String::from_utf8_lossy(&applies.stderr)
        );
        let word = test.name.rsplit("::").next().unwrap_or_default();
        let found =
            cmd!(sh, "git grep --no-index --quiet --fixed-strings").arg(format!("fn {word}(")).arg("--");
        let found = found.args(["crates", "tests"]).quiet().ignore_status().output()?;
        anyhow::ensure!(
            found.status.success(),
            "{BROKEN}/{}.patch names a test that is not there: {word}",
            patch.name
        );
        Ok(())
    }

    fn prove(&self, patch: &Patch) -> anyhow::Result<()> {
        let (sh, file) = (&self.sh, &patch.file);
        cmd!(sh, "git apply {file}").quiet().run()?;
        let ran = self.run(&patch.fails);
        cmd!(sh, "git apply --reverse {file}").quiet().run()?;
        match ran? {
            Ran::Failed => Ok(()),
            other => anyhow::bail!(
                "the invariant `{}` is broken by {BROKEN}/{}.patch, and {} {other}",
                patch.invariant,
                patch.name,
                patch.fails.name
            ),
        }
    }

    fn run(&self, test: &Named) -> anyhow::Result<Ran> {
        let (sh, package, name) = (&self.sh, test.package.as_str(), test.name.as_str());
        let kind: &[&str] = if test.suite == "lib" { &["--lib"] } else { &["--test", &test.suite] };
        let programs = ["build", "--locked", "--quiet", "-p", "tokenkeep-cli", "-p", "mock-auth0", "--bins"];
        let test = [&["test", "--locked", "--quiet", "--all-features", "-p", package], kind].concat();
        let builds = [&programs[..], &[&test[..], &["--no-run"]].concat()];
        // What is built is not what has a limit.
        for build in builds.iter().skip(usize::from(package != "tokenkeep-tests")) {
            let built = cargo(sh, build).quiet().ignore_status().output()?;
            if !built.status.success() {
                return Ok(Ran::DidNotRun(String::from_utf8_lossy(&built.stderr).into_owned()));
            }
        }
        let arguments = [&test[..], &["--", "--exact", name]].concat();
        let command = if has_program("timeout") {
            sh.cmd("timeout").args(["--kill-after=5", LIMIT_S, "cargo"]).args(arguments)
        } else {
            cargo(sh, &arguments)
        };
        let binary = |name: &str| self.target.join("debug").join(Path::new(name));
        let command = command
            .env("TOKENKEEP_BIN", binary("tokenkeep"))
            .env("MOCK_AUTH0_BIN", binary("mock-auth0"))
            .env("RUST_BACKTRACE", "0");
        let out = command.quiet().ignore_status().output()?;
        let text = String::from_utf8_lossy(&out.stdout);
        Ok(if out.status.success() && text.contains("test result: ok. 1 passed") {
            Ran::Passed
        } else if !out.status.success() && text.contains("test result: FAILED. 0 passed; 1 failed") {
            Ran::Failed
        } else {
            Ran::DidNotRun(format!("{text}{}", String::from_utf8_lossy(&out.stderr)))
        })
    }
}

/// Removes what is no longer in the workspace.
fn remove_others(sh: &Shell, tree: &Path, folder: &Path, tracked: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for path in sh.read_dir(folder)? {
        if path.is_dir() && !path.is_symlink() {
            remove_others(sh, tree, &path, tracked)?;
        } else if path.strip_prefix(tree).is_ok_and(|path| !tracked.contains(path)) {
            sh.remove_path(&path)?;
        }
    }
    Ok(())
}
