//! `tokenkeep vault import`: stores what an export holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;
use tokenkeep::clock::SystemClock;
use tokenkeep::store::{
    Expected, Export, ImportOutcome, Imported, Key, SecretStore, Seen, StoreError, Vault,
};
use tokenkeep::{MemoryStore, Secret, Session};

use super::{question, record};
use crate::context::Context;
use crate::exit::{CommandError, Exit};
use crate::input;
use crate::moment::rfc3339;

/// Store the sessions of an export.
///
/// A session that is there already stays, unless --replace is given. An old export brings spent refresh tokens back: using
/// one ends its session. What opens the vault opens the export too, if it is a private key; else name another.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  tokenkeep vault import sessions.age
  tokenkeep vault import sessions.age --export-identity recovery.txt
  ssh old-host tokenkeep vault export --recipient age1… | tokenkeep vault import -")]
pub(crate) struct ImportArgs {
    /// The export; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Private key file that opens the export; - is standard input
    #[arg(long, value_name = "FILE")]
    export_identity: Option<PathBuf>,

    /// Put the export's sessions in the place of those that are there
    ///
    /// One that changes after it was looked at, while this asks or waits, is left alone: exit code 1 then.
    #[arg(long)]
    replace: bool,

    /// Do not ask before a newer session is replaced
    #[arg(long, short, requires = "replace")]
    yes: bool,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct ImportFields {
    vault: String,
    exported_at: String,
    /// How old the export is, in seconds.
    age: u64,
    entries: Vec<EntryFields>,
}

#[derive(Serialize)]
struct EntryFields {
    key: String,
    session: Option<String>,
    /// `stored`, `replaced`, `same`, `kept`, `changed` or `damaged`.
    outcome: &'static str,
    /// The revision that is stored now.
    revision: Option<u64>,
    /// Whether what was stored before was newer than the export's: `null` if that cannot be told.
    stored_was_newer: Option<bool>,
}

/// Runs `vault import`.
pub(crate) async fn run(context: &Context, args: &ImportArgs) -> Result<Exit, CommandError> {
    context.standard_input_once(
        &[("FILE", Some(&args.file)), ("--export-identity", args.export_identity.as_deref())],
        "tokenkeep vault import FILE --export-identity FILE",
    )?;
    let given =
        args.export_identity.as_deref().map(|path| input::identity("--export-identity", path)).transpose()?;
    let file = input::export(&args.file)?;
    let (vault, opener) = context.opening(context.prompt)?.open_by().await?;
    let export = vault.read_export(file, given.unwrap_or(opener)).await?;
    let stored = Stored::look(&vault, &export).await?;
    warn(context, args, &export, &stored.newer)?;
    let replace = if args.replace { stored.seen } else { BTreeMap::new() };
    let imported = vault.import(&export, &replace, context.lease_wait()).await?;
    tell(context, &vault, &export, &stored.newer, &imported)?;
    match imported.iter().filter(|entry| entry.outcome == ImportOutcome::Changed).count() {
        0 => Ok(Exit::Done),
        changed => Err(CommandError::new(
            Exit::Other,
            "conflict",
            format!(
                "of the entries that were to be replaced, {changed} changed meanwhile, and were left alone"
            ),
            "look what there is now: tokenkeep vault import FILE --replace",
        )),
    }
}

/// What is stored of that which an export holds, at one look.
struct Stored {
    seen: BTreeMap<Key, Seen>,
    /// Whether it is newer than the export's: by its revision where the export is of this vault, else by when it was
    /// renewed or signed in last. Not in it: what cannot be told, and what is not stored.
    newer: BTreeMap<Key, bool>,
}

impl Stored {
    async fn look(vault: &Vault, export: &Export) -> Result<Self, CommandError> {
        let (mut seen, mut newer) = (BTreeMap::new(), BTreeMap::new());
        for entry in &export.entries {
            let stored = match vault.get(&entry.key).await {
                Ok(Some(stored)) => stored,
                Ok(None) => {
                    seen.insert(entry.key.clone(), Seen::Absent);
                    continue;
                }
                Err(StoreError::Corrupt { .. }) => {
                    seen.insert(entry.key.clone(), Seen::Damaged);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            seen.insert(entry.key.clone(), Seen::At(stored.revision));
            if export.key_id == Some(vault.key_id()) {
                newer.insert(entry.key.clone(), stored.revision > entry.revision);
                continue;
            }
            let here = touched(&entry.key, stored.value).await;
            let there = touched(&entry.key, entry.value.clone()).await;
            if let (Some(here), Some(there)) = (here, there) {
                newer.insert(entry.key.clone(), here > there);
            }
        }
        Ok(Self { seen, newer })
    }
}

/// When a stored session was renewed or signed in last.
async fn touched(key: &Key, value: Secret) -> Option<SystemTime> {
    let store = MemoryStore::new();
    store.put(key, &value, Expected::Any).await.ok()?;
    let session = Session::open(Arc::new(store), Session::name_of(key)?).await.ok()?;
    let status = session.status().await.ok()?;
    status.renewed_at.or(status.signed_in_at)
}

/// Says how old the export is, and asks before it takes the place of something newer.
fn warn(
    context: &Context,
    args: &ImportArgs,
    export: &Export,
    newer: &BTreeMap<Key, bool>,
) -> Result<(), CommandError> {
    context.output.note(format_args!(
        "This export was made {} ({} ago). A session that was renewed since, here or elsewhere, has a spent refresh token \
         in it, and ends when that is used.",
        rfc3339(export.at),
        age_text(age(export))
    ));
    let replaced: Vec<_> =
        newer.iter().filter(|(_, newer)| **newer && args.replace).map(|(key, _)| key).collect();
    for key in &replaced {
        context.output.before_asking(
            !args.yes && context.prompt.allowed(),
            format_args!("{}: what is stored here is newer than the export's.", record::name(Some(key))),
        );
    }
    if replaced.is_empty() || args.yes {
        return Ok(());
    }
    if !context.prompt.allowed() {
        return Err(CommandError::usage(
            "sessions that are newer than the export would be replaced, and there is nobody to ask",
            "tokenkeep vault import FILE, or tokenkeep vault import FILE --replace --yes",
        ));
    }
    question::ask(context, "Replace them?", "nothing was changed", "tokenkeep vault import FILE")
}

fn tell(
    context: &Context,
    vault: &Vault,
    export: &Export,
    newer: &BTreeMap<Key, bool>,
    imported: &[Imported],
) -> Result<(), CommandError> {
    if context.output.json {
        let entries = imported.iter().map(|entry| EntryFields {
            key: entry.key.as_str().to_owned(),
            session: Session::name_of(&entry.key).map(str::to_owned),
            outcome: outcome(entry.outcome).0,
            revision: entry.revision.map(tokenkeep::store::Revision::get),
            stored_was_newer: newer.get(&entry.key).copied(),
        });
        return context.output.object(&ImportFields {
            vault: vault.path().display().to_string(),
            exported_at: rfc3339(export.at),
            age: age(export).as_secs(),
            entries: entries.collect(),
        });
    }
    for entry in imported {
        let said = outcome(entry.outcome).1;
        context.output.line(&format!("{}: {said}", record::name(Some(&entry.key))))?;
    }
    if imported.is_empty() {
        context.output.note("There is nothing in this export.");
    }
    Ok(())
}

fn outcome(outcome: ImportOutcome) -> (&'static str, &'static str) {
    match outcome {
        ImportOutcome::Stored => ("stored", "stored"),
        ImportOutcome::Replaced => ("replaced", "put in the place of what was stored"),
        ImportOutcome::Same => ("same", "the same is stored already"),
        ImportOutcome::Kept => ("kept", "what is stored stays (--replace puts the export's in its place)"),
        ImportOutcome::Changed => ("changed", "it changed since it was looked at, and stays as it is now"),
        ImportOutcome::Damaged => {
            ("damaged", "what is stored is damaged, and stays (--replace puts the export's in its place)")
        }
        _ => ("unknown", "unknown"),
    }
}

fn age(export: &Export) -> Duration {
    SystemClock::shared().wall().duration_since(export.at).unwrap_or_default()
}

fn age_text(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}
