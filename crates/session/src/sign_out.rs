//! Signing out: wins over everything else, and takes no lease.

use std::sync::Arc;

use tokenkeep_auth0::{TokenClient, TokenTypeHint};
use tokenkeep_secret::SecretString;
use tokenkeep_store::{Expected, StoreError};

use crate::SessionError;
use crate::core::{Core, Known};
use crate::error::Failure;
use crate::host::Actor;
use crate::moment::Moment;
use crate::record::{EndReason, Record, State, StoredEnd};

/// How far a sign-out goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignOut {
    /// Signs out here and revokes the refresh token at the issuer (RFC 7009).
    Revoke,
    /// Signs out here only; the refresh token stays good at the issuer for whoever has a copy.
    LocalOnly,
}

/// What a sign-out did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedOut {
    /// Whether anybody was signed in.
    pub was_signed_in: bool,
    /// What became of the refresh token.
    pub revocation: Revocation,
}

/// What became of a refresh token at a sign-out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Revocation {
    /// There was none to revoke, or it was not asked for.
    NotNeeded,
    /// The issuer has revoked it.
    Done,
    /// The issuer could not be told. The token is kept, sealed, for another sign-out to revoke.
    Pending(Failure),
}

impl Core {
    pub(crate) async fn sign_out(self: &Arc<Self>, how: SignOut) -> Result<SignedOut, SessionError> {
        let (tombstone, was_signed_in) = loop {
            let known = self.reload().await?;
            let (Some(record), Some(revision)) = (&known.record, known.revision) else {
                return Ok(SignedOut { was_signed_in: false, revocation: Revocation::NotNeeded });
            };
            self.bind(record)?;
            if record.state == State::Ended && (how == SignOut::LocalOnly || record.to_revoke.is_empty()) {
                return Ok(SignedOut { was_signed_in: false, revocation: Revocation::NotNeeded });
            }
            if record.state == State::Ended {
                break (record.clone(), false);
            }
            let tombstone = self.tombstone(record, how);
            match self.store.put(&self.key, &tombstone.encode()?, Expected::At(revision)).await {
                Ok(revision) => {
                    self.publish(Known { record: Some(tombstone.clone()), revision: Some(revision) });
                    break (tombstone, true);
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let revocation = match how {
            SignOut::Revoke => self.revoke_all(&tombstone).await,
            SignOut::LocalOnly => Revocation::NotNeeded,
        };
        Ok(SignedOut { was_signed_in, revocation })
    }

    fn tombstone(&self, record: &Record, how: SignOut) -> Record {
        let mut tombstone = record.ended(StoredEnd {
            reason: EndReason::SignedOut.as_str().to_owned(),
            at: Moment::now(&*self.clock),
            by: Actor::this(),
            error: None,
            description: None,
            refused: None,
        });
        if how == SignOut::Revoke {
            tombstone.to_revoke.extend(record.refresh_token.clone());
        }
        tombstone
    }

    async fn revoke_all(&self, tombstone: &Record) -> Revocation {
        let client = match self.client(tombstone) {
            Ok(client) => client,
            Err(SessionError::Settings(error)) => return Revocation::Pending(Failure::from_error(&error, 0)),
            Err(_) => return Revocation::NotNeeded,
        };
        let (mut done, mut pending) = (Revocation::NotNeeded, None);
        for token in &tombstone.to_revoke {
            match revoke(&client, token).await {
                Ok(()) => {
                    self.forget_to_revoke(token).await;
                    done = Revocation::Done;
                }
                Err(failure) => pending = Some(failure),
            }
        }
        pending.map_or(done, Revocation::Pending)
    }

    /// Takes a revoked token out of the tombstone, whatever else has been written to it.
    async fn forget_to_revoke(&self, token: &SecretString) {
        loop {
            let Ok(known) = self.reload().await else { return };
            let (Some(record), Some(revision)) = (&known.record, known.revision) else { return };
            if !record.to_revoke.contains(token) {
                return;
            }
            let mut next = record.clone();
            next.to_revoke.retain(|kept| kept != token);
            let Ok(value) = next.encode() else { return };
            match self.store.put(&self.key, &value, Expected::At(revision)).await {
                Ok(revision) => {
                    self.publish(Known { record: Some(next), revision: Some(revision) });
                    return;
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    // Revoking it once more later does no harm.
                    tracing::debug!(%error, "the tombstone keeps a token that is already revoked");
                    return;
                }
            }
        }
    }

    /// Removes the entry, settings and all. What was still to be revoked is lost with it, so sign out first.
    pub(crate) async fn forget(&self) -> Result<(), SessionError> {
        self.store.remove(&self.key, Expected::Any).await?;
        self.shared().identity = None;
        self.reload().await.map(drop)
    }
}

async fn revoke(client: &TokenClient, token: &SecretString) -> Result<(), Failure> {
    client.revoke(token, TokenTypeHint::RefreshToken).await.map_err(|error| Failure::from_error(&error, 0))
}
