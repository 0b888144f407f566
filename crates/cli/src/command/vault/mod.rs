//! `tokenkeep vault …`: the file that keeps the sessions.

mod compact;
mod export;
mod import;
mod init;
mod locks;
mod passphrase;
mod pin;
mod question;
mod record;
mod rekey;
mod repair;
mod status;
mod trust;
mod verify;
mod way;
mod ways;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Make, show, check, repair and copy the vault.
#[derive(Args, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    pub(crate) command: VaultCommand,
}

/// What to do with the vault.
#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    Init(init::InitArgs),
    Status(status::StatusArgs),
    Ways(ways::WaysArgs),
    Passphrase(passphrase::PassphraseArgs),
    Rekey(rekey::RekeyArgs),
    Trust(trust::TrustArgs),
    Verify(verify::VerifyArgs),
    Repair(repair::RepairArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Compact(compact::CompactArgs),
}

/// Runs `vault …`.
pub(crate) async fn run(context: &Context, command: VaultCommand) -> Result<Exit, CommandError> {
    match command {
        VaultCommand::Init(args) => init::run(context, &args).await,
        VaultCommand::Status(_) => status::run(context).await,
        VaultCommand::Ways(args) => ways::run(context, args).await,
        VaultCommand::Passphrase(args) => passphrase::run(context, &args).await,
        VaultCommand::Rekey(args) => rekey::run(context, &args).await,
        VaultCommand::Trust(args) => trust::run(context, &args),
        VaultCommand::Verify(args) => verify::run(context, &args).await,
        VaultCommand::Repair(args) => repair::run(context, &args).await,
        VaultCommand::Export(args) => export::run(context, &args).await,
        VaultCommand::Import(args) => import::run(context, &args).await,
        VaultCommand::Compact(_) => compact::run(context).await,
    }
}
