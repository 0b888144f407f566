//! The command line. Help texts, completions, man pages and docs/cli.md all follow these definitions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use tokenkeep::config::parse_duration;

use crate::command;

/// The heading under which help lists what every command takes.
const EVERYWHERE: &str = "For every command";

/// Keeps a signed-in session alive on a machine without a keychain.
///
/// Sign in once with `tokenkeep login`. From then on `tokenkeep token` prints an access token that is always good: it is
/// renewed with the refresh token exactly once however many processes ask. Tokens are kept in an encrypted vault file.
#[derive(Debug, Parser)]
#[command(
    name = "tokenkeep",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = LONG_EXAMPLES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Login(command::login::LoginArgs),
    Token(command::token::TokenArgs),
    Request(command::request::RequestArgs),
    Whoami(command::whoami::WhoamiArgs),
    Status(command::status::StatusArgs),
    List(command::list::ListArgs),
    Renew(command::renew::RenewArgs),
    Logout(command::logout::LogoutArgs),
    Vault(command::vault::VaultArgs),
    Completions(command::generate::CompletionsArgs),
    Man(command::generate::ManArgs),
}

/// What every command takes.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Name of the session [env: TOKENKEEP_SESSION]
    ///
    /// `default` if none is given. 1 to 64 letters, digits, dots, underscores and hyphens.
    #[arg(long, global = true, value_name = "NAME", help_heading = EVERYWHERE)]
    pub(crate) session: Option<String>,

    /// The vault file [env: TOKENKEEP_VAULT]
    ///
    /// Its default place is tokenkeep/sessions.vault in the data folder ($XDG_DATA_HOME, ~/.local/share), or in
    /// $STATE_DIRECTORY where there is no home folder.
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE)]
    pub(crate) vault: Option<PathBuf>,

    /// The kind of store: `vault` [env: TOKENKEEP_STORE]
    #[arg(long, global = true, value_name = "STORE", help_heading = EVERYWHERE, hide_short_help = true)]
    pub(crate) store: Option<String>,

    /// Private key file that opens the vault
    ///
    /// An age identity, an SSH private key without a passphrase, or an age plugin's identity. Variables that open the vault, the first that is set decides: TOKENKEEP_IDENTITY,
    /// $CREDENTIALS_DIRECTORY/tokenkeep-identity and /tokenkeep-passphrase, TOKENKEEP_PASSPHRASE_FD, _FILE, _COMMAND,
    /// TOKENKEEP_PASSPHRASE.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "passphrase_file", help_heading = EVERYWHERE, hide_short_help = true)]
    pub(crate) identity: Option<PathBuf>,

    /// File that holds the vault's passphrase; `-` is standard input
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERYWHERE, hide_short_help = true)]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// Print JSON; errors are JSON on standard error
    ///
    /// One object a line. Warnings are left out then, unless -v asks for them.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    /// Never ask on the terminal
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) no_input: bool,

    /// Give up after this long (90, 90s, 5m)
    ///
    /// Counts for the whole command: waiting for the issuer, for another process and for saving.
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration, help_heading = EVERYWHERE)]
    pub(crate) timeout: Option<Duration>,

    /// Print errors alone to standard error
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = EVERYWHERE)]
    pub(crate) quiet: bool,

    /// Say what is being done; up to -vvv
    ///
    /// RUST_LOG chooses by crate, such as RUST_LOG=tokenkeep_session=debug. No level shows a token.
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = EVERYWHERE)]
    pub(crate) verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  tokenkeep login --domain tenant.eu.auth0.com --client-id ID
  curl -H \"$(tokenkeep token --header)\" https://api.example.com/
  tokenkeep request https://api.example.com/things";

const LONG_EXAMPLES: &str = "\
Examples:
  tokenkeep login --domain tenant.eu.auth0.com --client-id ID
  curl -H \"$(tokenkeep token --header)\" https://api.example.com/
  tokenkeep request https://api.example.com/things

Exit codes:
  0  done
  1  anything not below
  2  usage
  3  login required: no vault, no session, or it has ended
  4  locked: nothing set opens the vault, a wrong passphrase, keys changed
  5  the issuer or the network is unavailable or answers nonsense: try again later
  6  the store is damaged, full, not writable, of another owner or of a newer version
  7  timed out waiting for another process

Variables:
  TOKENKEEP_SESSION, TOKENKEEP_VAULT, TOKENKEEP_STORE  as the flags, which beat them
  TOKENKEEP_IDENTITY                                   private key file that opens the vault
  TOKENKEEP_PASSPHRASE_FD, _FILE, _COMMAND             where the vault's passphrase comes from
  TOKENKEEP_PASSPHRASE                                 the passphrase itself: the last resort
  TOKENKEEP_VAULT_ID                                   the key id that the vault must have
  CREDENTIALS_DIRECTORY                                set by systemd: tokenkeep-identity, tokenkeep-passphrase
  STATE_DIRECTORY                                      set by systemd: the vault's place where there is no home
  SSL_CERT_FILE                                        certificate authorities to trust instead of the system's
  RUST_LOG, NO_COLOR                                   as everywhere

Files:
  ~/.config/tokenkeep/config.toml, then /etc/tokenkeep/config.toml: vault, session, store, identity,
  passphrase_file, passphrase_command, timeout. A flag beats a variable beats these files.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// What every command and every long flag is named in.
    const REFERENCE: &str = include_str!("../../../docs/cli.md");

    fn missing(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let heading = format!("\n## `{path}`");
        let Some(start) = REFERENCE.find(&heading) else {
            missing.push(path.to_owned());
            return;
        };
        let section = &REFERENCE[start + heading.len()..];
        let section = section.find("\n## ").map_or(section, |end| &section[..end]);
        for flag in command.get_arguments().filter(|arg| !arg.is_global_set()) {
            let Some(long) = flag.get_long().filter(|long| !["help", "version"].contains(long)) else {
                continue;
            };
            // `--param` is not found in `--parameter`.
            let named = section.match_indices(&format!("--{long}")).any(|(at, found)| {
                !section[at + found.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
            });
            if !named {
                missing.push(format!("{path} --{long}"));
            }
        }
        for command in command.get_subcommands() {
            self::missing(command, &format!("{path} {}", command.get_name()), missing);
        }
    }

    #[test]
    fn the_definitions_hold_together() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_is_in_the_reference() {
        let command = super::Cli::command();
        let mut all = Vec::new();
        missing(&command, "tokenkeep", &mut all);
        for flag in command.get_arguments().filter(|arg| arg.is_global_set()) {
            let row = format!("| `--{}", flag.get_long().unwrap_or_default());
            if !REFERENCE.contains(&row) {
                all.push(row);
            }
        }
        assert_eq!(all, Vec::<String>::new(), "missing in docs/cli.md");
    }

    #[test]
    fn the_reference_names_no_flag_that_does_not_exist() {
        fn longs(command: &clap::Command, into: &mut Vec<String>) {
            into.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
            command.get_subcommands().for_each(|command| longs(command, into));
        }
        let mut known = vec!["help".to_owned(), "version".to_owned()];
        longs(&super::Cli::command(), &mut known);
        let unknown: Vec<&str> = REFERENCE
            .match_indices("--")
            .map(|(at, _)| &REFERENCE[at + 2..])
            .filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len());
                Some(&rest[..end]).filter(|flag| flag.starts_with(|c: char| c.is_ascii_lowercase()))
            })
            .filter(|flag| !known.iter().any(|known| known == flag))
            .collect();
        assert_eq!(unknown, Vec::<&str>::new(), "docs/cli.md names flags that do not exist");
    }
}
