//! Asking a person before something that cannot be undone.

use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::prompt::unreadable;

/// Asks whether to go on. Where nobody can be asked, `--yes` has to say so.
pub(super) fn confirm(context: &Context, yes: bool, command: &str) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    if let Some(why) = context.prompt.refusal() {
        return Err(CommandError::usage(
            format!("nobody can be asked whether to go on ({why})"),
            format!("{command} --yes"),
        ));
    }
    ask(context, "Go on?", "nothing was changed", format!("{command}, and answer yes"))
}

/// Asks `question`; anything but yes is an error that says that `nothing` was done, and what helps.
pub(super) fn ask(
    context: &Context,
    question: &str,
    nothing: &str,
    help: impl Into<String>,
) -> Result<(), CommandError> {
    if context.prompt.confirms(question).map_err(unreadable)? {
        return Ok(());
    }
    Err(CommandError::new(Exit::Other, "declined", nothing, help))
}
