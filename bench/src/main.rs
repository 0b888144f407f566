//! What the design promises, each row beside its limit in the same run. Started by `cargo xtask bench`.
//!
//! A figure says little without its neighbour: machines, disks and loads differ, so each row is measured alternately
//! with what bounds it, and the ratio is what counts.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is its purpose")]

mod measure;
mod plot;
mod process;
mod report;
mod session;
mod stage;
mod vault;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;

use plot::Plot;
use report::Report;
use stage::Stage;

/// Measure what the design promises, each row beside its limit in the same run.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Cli {
    /// Write the rows as JSON to this file; `-` is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// A tenth of the rounds, and no vault of 100,000 entries: to see that it runs, not to quote
    #[arg(long)]
    quick: bool,

    /// Draw the vault's put and open times to this file, where any of them was measured
    #[arg(long, value_name = "FILE", default_value = "target/bench/vault.svg")]
    svg: PathBuf,

    /// Folder to measure in; what stands there decides what a sync costs [default: the temporary folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Rows to measure, by a part of their name; all if none is given. `vault`: the vault's,
    /// with up to 1.3 GB of disk; `session`: the session's
    rows: Vec<String>,

    /// Say how much memory this process took at most to use the vault at this path; of the memory row
    #[arg(long, hide = true, value_name = "VAULT")]
    peak: Option<PathBuf>,
}

/// How much is measured.
#[derive(Clone, Debug)]
struct Plan {
    /// Rounds are divided by this.
    divisor: usize,
    large: bool,
    rows: Vec<String>,
}

impl Plan {
    fn rounds(&self, usual: usize) -> usize {
        (usual / self.divisor).max(3)
    }

    fn wants(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|part| name.contains(part.as_str()))
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(vault) = cli.peak {
        println!("{}", runtime.block_on(vault::peak(&vault))?);
        return Ok(());
    }
    let plan = Plan { divisor: if cli.quick { 10 } else { 1 }, large: !cli.quick, rows: cli.rows };
    let mut report = Report::begin();
    let plot = runtime.block_on(async {
        tokio::select! {
            measured = measure(&plan, cli.folder.as_deref(), &mut report) => measured,
            // So that the folder with its large vaults goes away.
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })?;
    report.end();
    match cli.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", report.json()),
        Some(path) => {
            println!("{}", report.table());
            write(&path, &report.json().to_string())?;
        }
        None => println!("{}", report.table()),
    }
    if let Some(svg) = plot.svg() {
        write(&cli.svg, &svg)?;
        eprintln!("drawn to {}", cli.svg.display());
    }
    Ok(())
}

async fn measure(plan: &Plan, folder: Option<&Path>, report: &mut Report) -> anyhow::Result<Plot> {
    let stage = Stage::new(folder).await?;
    let plot = vault::measure(plan, &stage, report).await?;
    process::measure(plan, &stage, report)?;
    session::measure(plan, &stage, report).await?;
    Ok(plot)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
