//! The main job, step by step: what happens at the issuer, in the vault file and in the shell, with every claim checked.
//!
//! It runs the real command against a mock issuer of its own, in a folder that goes away. Started by `cargo xtask demo`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "showing things is what it is for")]

mod command;
mod faults;
mod page;
mod session;
mod stage;
mod vault_file;

use std::process::ExitCode;

use stage::Stage;

fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            page::failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn play() -> anyhow::Result<()> {
    let mut stage = Stage::new()?;
    session::vault(&mut stage)?;
    session::sign_in(&mut stage)?;
    session::token(&mut stage)?;
    session::profile(&mut stage)?;
    session::renewal(&mut stage)?;
    session::crowd(&mut stage)?;
    session::rejected(&mut stage)?;
    faults::issuer_down(&mut stage)?;
    faults::revoked(&mut stage)?;
    faults::flipped_bit(&mut stage)?;
    faults::killed(&mut stage)?;
    session::sign_out(&mut stage)?;
    stage.bow();
    Ok(())
}
