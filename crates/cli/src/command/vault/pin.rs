//! How what is pinned for a vault is shown: by `status`, `verify` and `repair`.

use serde::Serialize;
use tokenkeep::StoreError;
use tokenkeep::store::{KeyId, PinReport};

use crate::exit::CommandError;

/// Which key id is expected.
#[derive(Serialize)]
pub(super) struct PinFields {
    /// None before the first opening, two while keys are being changed.
    key_ids: Vec<String>,
    /// What says so: TOKENKEEP_VAULT_ID, or the file of the pin; `null` where none can be kept.
    by: Option<String>,
    /// Whether a public key may open the vault that is there.
    trusted: bool,
    /// Why it cannot be pinned, or what is wrong with a pin.
    reason: Option<String>,
}

/// What is pinned, and why it could not be when the vault was opened just now, if it could not.
pub(super) struct Shown<'a> {
    pub(super) report: &'a PinReport,
    pub(super) unpinned: Option<&'a str>,
}

impl Shown<'_> {
    fn reason(&self) -> Option<String> {
        let report = self.report;
        if report.given.is_some() {
            return None;
        }
        let why = self.unpinned.map(str::to_owned).or_else(|| report.file.as_ref().err().cloned());
        why.or_else(|| (!report.troubles.is_empty()).then(|| report.troubles.join("; ")))
    }

    fn by(&self) -> Option<String> {
        match (&self.report.given, self.unpinned, &self.report.file) {
            (Some((_, by)), ..) => Some(by.clone()),
            (None, None, Ok(file)) => Some(file.display().to_string()),
            _ => None,
        }
    }

    /// As JSON.
    pub(super) fn fields(&self) -> PinFields {
        let report = self.report;
        let ids = report.given.as_ref().map_or(&report.pinned[..], |(id, _)| std::slice::from_ref(id));
        PinFields {
            key_ids: ids.iter().map(KeyId::to_string).collect(),
            by: self.by(),
            trusted: report.is_trusted(),
            reason: self.reason(),
        }
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let report = self.report;
        match report.refusal() {
            Some(StoreError::UntrustedKeys { expected, by, .. }) => {
                return format!("{expected} ({by}), another one: `tokenkeep vault trust`");
            }
            Some(error) => return error.to_string(),
            None => {}
        }
        let is_pinned = report.given.is_some() || !report.pinned.is_empty();
        match (self.reason(), self.by()) {
            (Some(reason), Some(by)) if is_pinned => format!("the same ({by}); {reason}"),
            (Some(reason), _) => format!("none: {reason}"),
            (None, Some(by)) if !is_pinned => format!("none yet ({by})"),
            (None, by) => format!("the same ({})", by.as_deref().unwrap_or("nowhere")),
        }
    }
}

/// What is found and pinned, in one line. `proven`: opened by something that proves who wrote the vault.
pub(super) fn line(report: &PinReport, proven: bool) -> String {
    let proof = match proven && !report.is_trusted() {
        true => "; but its writer knew the passphrase that opens it",
        false => "",
    };
    let text = Shown { report, unpinned: None }.text();
    format!("key id: {}; pinned: {text}{proof}", report.found)
}

/// The error for a vault that was read for a check, and that is not opened here.
pub(super) fn refused(error: StoreError) -> CommandError {
    let instead = match &error {
        StoreError::UntrustedKeys { path, found, expected, by } => Some(format!(
            "the vault at {} has key id {found}, but {by} says {expected}: its keys were changed elsewhere, or somebody \
             put another vault in its place",
            path.display()
        )),
        _ => None,
    };
    let error = CommandError::from(error);
    CommandError { message: instead.unwrap_or(error.message), ..error }
}
