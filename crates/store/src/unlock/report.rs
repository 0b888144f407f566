//! What was looked at for a passphrase or key, for `vault status` and for the error where nothing serves.

use super::{Candidate, Place};

/// One place that is looked at, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceReport {
    /// Its name, such as `TOKENKEEP_PASSPHRASE_FILE`.
    pub name: String,
    /// What came of it.
    pub state: SourceState,
}

/// Whether a source is the one that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceState {
    /// It is the first that is set: this one is used, or its failure is the error.
    Decides,
    /// It is used if it holds a key for this vault, which shows only when it is asked: the OS keychain.
    Maybe,
    /// It is set, and not used because another before it is.
    Behind,
    /// It is not set.
    NotSet {
        /// Why it does not serve.
        reason: String,
    },
}

pub(super) fn of(looked_at: &[Candidate]) -> Vec<SourceReport> {
    let decides = looked_at
        .iter()
        .position(|candidate| matches!(&candidate.place, Ok(place) if !matches!(place, Place::Keychain(_))))
        .unwrap_or(looked_at.len());
    let state = |at: usize, candidate: &Candidate| match &candidate.place {
        Err(reason) => SourceState::NotSet { reason: reason.clone() },
        Ok(_) if at > decides => SourceState::Behind,
        Ok(_) if at == decides => SourceState::Decides,
        Ok(_) => SourceState::Maybe,
    };
    looked_at
        .iter()
        .enumerate()
        .map(|(at, candidate)| SourceReport { name: candidate.name.clone(), state: state(at, candidate) })
        .collect()
}

/// The sources that are not set, with neighbours of the same reason in one bracket: `A, B (not set), C (no terminal)`.
pub(super) fn tried(looked_at: &[Candidate]) -> String {
    let reasons: Vec<(&str, &str)> = looked_at
        .iter()
        .filter_map(|candidate| Some((candidate.name.as_str(), candidate.place.as_ref().err()?.as_str())))
        .collect();
    reasons
        .chunk_by(|(_, one), (_, other)| one == other)
        .map(|group| {
            let names: Vec<&str> = group.iter().map(|(name, _)| *name).collect();
            let reason = group.first().map(|(_, reason)| *reason).unwrap_or_default();
            format!("{} ({reason})", names.join(", "))
        })
        .collect::<Vec<_>>()
        .join(", ")
}
