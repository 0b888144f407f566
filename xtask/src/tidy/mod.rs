//! `cargo xtask tidy`: what no compiler checks.

mod links;
mod parity;
mod text;
mod tree;

use clap::Args;
use xshell::Shell;

use crate::steps;
use crate::workspace;

/// Check what no compiler checks: names of files, links, unfinished code, the table of cases.
#[derive(Args, Debug)]
pub(crate) struct Tidy {
    /// Write into docs/parity.md which tests hold each case
    #[arg(long)]
    write: bool,
}

impl Tidy {
    pub(crate) fn run(self, sh: &Shell) -> anyhow::Result<()> {
        if self.write {
            let files = tree::files(&workspace::root())?;
            parity::write(&files)?;
        }
        check(sh)
    }
}

/// Finds everything at once, so that it is mended at once.
pub(crate) fn check(_sh: &Shell) -> anyhow::Result<()> {
    let root = workspace::root();
    let files = tree::files(&root)?;
    let mut problems = Vec::new();
    problems.extend(tree::badly_named(&files));
    problems.extend(text::problems(&root, &files));
    problems.extend(links::broken(&root, &files));
    problems.extend(parity::problems(&files));
    problems.sort();
    problems.iter().for_each(|problem| steps::say(problem));
    anyhow::ensure!(problems.is_empty(), "{} things are out of order", problems.len());
    Ok(())
}
