//! The commands, one file each.

pub(crate) mod generate;
pub(crate) mod list;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod renew;
pub(crate) mod request;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod vault;
pub(crate) mod whoami;

use crate::args::Command;
use crate::context::Context;
use crate::exit::{CommandError, Exit};

/// Runs a command. Those that need neither store nor network are not among them.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, CommandError> {
    match command {
        Command::Login(args) => login::run(context, args).await,
        Command::Token(args) => token::run(context, &args).await,
        Command::Request(args) => request::run(context, &args).await,
        Command::Whoami(_) => whoami::run(context).await,
        Command::Status(_) => status::run(context).await,
        Command::List(_) => list::run(context).await,
        Command::Renew(args) => renew::run(context, &args).await,
        Command::Logout(args) => logout::run(context, &args).await,
        Command::Vault(args) => vault::run(context, args.command).await,
        Command::Completions(args) => generate::completions(&args, context.output).map(|()| Exit::Done),
        Command::Man(args) => generate::man(&args, context.output).map(|()| Exit::Done),
    }
}
