//! What the design promises, each row beside its limit in the same run. Started by `cargo xtask bench`.
//!
//! A figure says little without its neighbour: machines, disks and loads differ, so each row is measured alternately
//! with what bounds it, and the ratio is what counts.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is its purpose")]

mod measure;
mod process;
mod renewal;
mod report;
mod stage;
mod store;
mod warm;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use report::Report;
use stage::Stage;

/// Measure what the design promises, each row beside its limit in the same run.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench")]
struct Cli {
    /// Write the rows as JSON to this file; `-` is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// A tenth of the rounds: to see that it runs, not to quote
    #[arg(long)]
    quick: bool,

    /// Also a vault of 100,000 entries of 4 KiB: 430 MB of disk, and some minutes
    #[arg(long)]
    large: bool,

    /// Folder to measure in; what stands there decides what a sync costs [default: the temporary folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Rows to measure, by a part of their name; all if none is given
    rows: Vec<String>,
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
    let plan = Plan { divisor: if cli.quick { 10 } else { 1 }, large: cli.large, rows: cli.rows };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::begin();
    let stage = runtime.block_on(Stage::new(cli.folder.as_deref()))?;
    runtime.block_on(store::measure(&plan, &stage, &mut report))?;
    runtime.block_on(warm::measure(&plan, &stage, &mut report))?;
    process::measure(&plan, &stage, &mut report)?;
    runtime.block_on(renewal::measure(&plan, &stage, &mut report))?;
    report.end();
    match cli.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", report.json()),
        Some(path) => {
            println!("{}", report.table());
            std::fs::write(&path, report.json().to_string())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => println!("{}", report.table()),
    }
    Ok(())
}
