//! The access tokens that were issued, as the protected API and `/userinfo` know them.

use std::collections::HashMap;

use serde_json::Value;

use crate::refresh::FamilyId;
use crate::secrets::fingerprint;

/// What is known of an access token.
#[derive(Clone, Debug)]
pub(crate) struct AccessRecord {
    pub(crate) sub: String,
    pub(crate) scope: Vec<String>,
    pub(crate) claims: Value,
    /// Unix seconds.
    pub(crate) expires: i64,
    pub(crate) family: Option<FamilyId>,
    rejected: bool,
}

impl AccessRecord {
    pub(crate) fn new(
        sub: String,
        scope: Vec<String>,
        claims: Value,
        expires: i64,
        family: Option<FamilyId>,
    ) -> Self {
        Self { sub, scope, claims, expires, family, rejected: false }
    }
}

/// By fingerprint: the tokens themselves are not kept.
#[derive(Debug, Default)]
pub(crate) struct AccessTokens(HashMap<String, AccessRecord>);

/// Why an access token is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotLetIn {
    Unknown,
    Expired,
    Rejected,
}

impl AccessTokens {
    pub(crate) fn issued(&mut self, token: &str, record: AccessRecord) {
        self.0.insert(fingerprint(token), record);
    }

    pub(crate) fn check(&self, token: &str, now_secs: i64) -> Result<&AccessRecord, NotLetIn> {
        let record = self.0.get(&fingerprint(token)).ok_or(NotLetIn::Unknown)?;
        if record.rejected {
            Err(NotLetIn::Rejected)
        } else if now_secs >= record.expires {
            Err(NotLetIn::Expired)
        } else {
            Ok(record)
        }
    }

    /// The API refuses this token from now on. Says whether it was known.
    pub(crate) fn reject(&mut self, token: &str) -> bool {
        self.0.get_mut(&fingerprint(token)).map(|record| record.rejected = true).is_some()
    }

    /// The API refuses all tokens issued so far for which `which` holds. Gives their number.
    pub(crate) fn reject_where(&mut self, which: impl Fn(&AccessRecord) -> bool) -> usize {
        let hit = self.0.values_mut().filter(|record| !record.rejected && which(record));
        hit.map(|record| record.rejected = true).count()
    }
}
