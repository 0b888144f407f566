//! `cargo xtask fuzz`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use xshell::Shell;

use crate::steps;
use crate::workspace::{cargo, has_program};

/// How this task says that cargo-fuzz is missing.
const MISSING: u8 = 2;
/// An input that keeps a target busy for longer is a hang.
const LIMIT_S: u32 = 10;
/// A target that takes more memory is one that a file makes take it.
const LIMIT_MIB: u32 = 512;
/// More than the longest way in, in bytes.
const LONGEST: u32 = 20_000;
/// The most inputs that a corpus keeps beside those that [`STAY`].
const MOST_INPUTS: usize = 150;
/// How the names begin of inputs that broke something once, and of those that were made by hand for one promise each.
const STAY: [&str; 2] = ["found-", "made-"];

/// Fuzz what reads a vault: the reader, the frame scan, the stanza parser, the record decoder.
///
/// Needs cargo-fuzz and a C++ compiler; runs with the toolchain that builds the rest, without a sanitizer. It starts from
/// fuzz/corpus/TARGET, whose inputs `cargo xtask test fuzz_corpus` replays, and gathers what is new in fuzz/target. An
/// input that breaks a promise is left in fuzz/artifacts/TARGET: with the fix, it joins the corpus.
#[derive(Args, Debug)]
pub(crate) struct Fuzz {
    /// List the targets
    #[arg(long)]
    list: bool,
    /// What to fuzz; `--list` shows what there is
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Afterwards, renew fuzz/corpus/TARGET from what was gathered
    #[arg(long)]
    keep: bool,
}

impl Fuzz {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<ExitCode> {
        let targets = targets(sh)?;
        let Some(target) = self.target.as_deref().filter(|_| !self.list) else {
            targets.iter().for_each(|target| steps::say(target));
            return Ok(ExitCode::SUCCESS);
        };
        anyhow::ensure!(
            targets.iter().any(|known| known == target),
            "there is no fuzz target `{target}`; there are: {}",
            targets.join(", ")
        );
        if !has_program("cargo-fuzz") {
            steps::say("cargo-fuzz is missing: `cargo install --locked cargo-fuzz` gets it");
            return Ok(ExitCode::from(MISSING));
        }
        let (corpus, gathered) = (format!("fuzz/corpus/{target}"), format!("fuzz/target/corpus/{target}"));
        [&corpus, &gathered].into_iter().try_for_each(|folder| sh.create_dir(folder).map(drop))?;
        let limits = [
            format!("-max_total_time={}", self.seconds),
            format!("-timeout={LIMIT_S}"),
            format!("-rss_limit_mb={LIMIT_MIB}"),
            format!("-max_len={LONGEST}"),
            "-print_final_stats=1".to_owned(),
        ];
        let fuzz = ["fuzz", "run", "--sanitizer", "none", target];
        cargo(sh, &fuzz).args([&gathered, &corpus, "--"]).args(limits).run()?;
        if self.keep { keep(sh, target, &corpus, &gathered) } else { Ok(()) }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the fewest inputs that reach all lines reached the corpus, or a sample of them where they are many.
fn keep(sh: &Shell, target: &str, corpus: &str, gathered: &str) -> anyhow::Result<()> {
    let kept = format!("fuzz/target/kept/{target}");
    sh.remove_path(&kept)?;
    sh.create_dir(&kept)?;
    let fuzz = ["fuzz", "run", "--sanitizer", "none", target, &kept, gathered, corpus, "--"];
    // By lines reached, not by how often: else they would be thousands.
    cargo(sh, &fuzz)
        .args(["-set_cover_merge=1", "-use_counters=0"])
        .arg(format!("-max_len={LONGEST}"))
        .run()?;
    let inputs = sh.read_dir(&kept)?;
    anyhow::ensure!(!inputs.is_empty(), "nothing was kept; the corpus stays as it is");
    for old in sh.read_dir(corpus)? {
        let name = old.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !STAY.iter().any(|start| name.starts_with(start)) {
            sh.remove_path(old)?;
        }
    }
    // Their names are hashes, so that this is no choice.
    let every = inputs.len().div_ceil(MOST_INPUTS);
    for input in inputs.iter().step_by(every) {
        sh.copy_file(input, corpus)?;
    }
    steps::say(&format!("{corpus} has {} inputs now", sh.read_dir(corpus)?.len()));
    Ok(())
}

/// The targets there are: one program each.
fn targets(sh: &Shell) -> anyhow::Result<Vec<String>> {
    let programs = sh.read_dir("fuzz/fuzz_targets").context("the fuzz targets cannot be listed")?;
    let name = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    Ok(programs.iter().filter_map(|path| name(path)).collect())
}
