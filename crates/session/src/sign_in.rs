//! Signing in: replaces whatever is stored under the name, by compare-and-swap and without the lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokenkeep_auth0::{
    Answer, Flow, Grant, IdTokenExpectations, IdTokenVerdict, SignInRequest, TokenClient, TokenErrorKind,
    TokenTypeHint,
};
use tokenkeep_secret::SecretString;
use tokenkeep_store::{Expected, StoreError};

use crate::core::{Core, Known};
use crate::error::Refusal;
use crate::moment::Moment;
use crate::record::{Record, State};
use crate::renewal::{Order, is_renewable};
use crate::settings::{Settings, SignIn, StoredSettings};
use crate::settle::{Exchange, access_of, grant, refusal};
use crate::{SessionError, random};

/// What a sign-in brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// Who signed in: the id token's `sub`, if the issuer gave one.
    pub subject: Option<String>,
    /// When the access token expires, where the issuer said so.
    pub expires_at: Option<SystemTime>,
    /// The granted scope, where the issuer said what it granted.
    pub scope: Option<String>,
    /// Whether the session can be renewed; without `offline_access` it lives as long as its access token.
    pub renewable: bool,
    /// Whether a live session was replaced.
    pub replaced: bool,
}

impl Core {
    pub(crate) async fn sign_in<G: Grant>(
        self: &Arc<Self>,
        client: &TokenClient,
        request: &SignIn,
        grant_of: &G,
    ) -> Result<SignedIn, SessionError> {
        let failed = |error| SessionError::SignIn(Arc::new(error));
        self.prove_writable().await?;
        let mut asked = SignInRequest::new(request.scope.clone());
        asked.audience = request.audience.clone();
        asked.parameters = request.parameters.clone();
        let answer = client.sign_in(grant_of, &asked).await.map_err(failed)?;
        let mut record = self.new_record(client, request, grant_of.flow())?;
        let exchange = Exchange { attempt: 1, sent: None, cut_off: false, order: Order::default() };
        record.attempt = 1;
        record.refresh_token = answer.refresh_token.clone();
        self.judge_first(client, &mut record, &answer, &exchange).await?;
        record.issuer = Some(client.cached());
        self.replace(record).await
    }

    /// Judges the answer to a sign-in. A person is at hand to try again, so nothing unjudged is stored here.
    async fn judge_first(
        &self,
        client: &TokenClient,
        record: &mut Record,
        answer: &Answer,
        exchange: &Exchange,
    ) -> Result<(), SessionError> {
        if let Some(refusal) = refusal(answer) {
            return Err(SessionError::SignInRefused(refusal));
        }
        let access = access_of(record, answer, exchange);
        let Some(id_token) = &answer.id_token else {
            grant(record, access, None, answer);
            return Ok(());
        };
        let failed = |error| SessionError::SignIn(Arc::new(error));
        client.load_keys().await.map_err(failed)?;
        let expect = IdTokenExpectations::default();
        let mut verdict = client.judge_id_token(id_token, &expect, self.clock.wall());
        if matches!(verdict, IdTokenVerdict::KeysNeeded) {
            client.reload_keys().await.map_err(failed)?;
            verdict = client.judge_id_token(id_token, &expect, self.clock.wall());
        }
        match verdict {
            IdTokenVerdict::Good(claims) => {
                grant(record, access, Some(&claims), answer);
                Ok(())
            }
            IdTokenVerdict::Refused(refusal) => Err(SessionError::SignInRefused(Refusal::IdToken(refusal))),
            _ => Err(SessionError::SignInRefused(Refusal::IdToken(tokenkeep_auth0::IdTokenRefusal::Key))),
        }
    }

    /// Takes over a refresh token from elsewhere, and rotates it at once: stored first, then renewed by the ordinary
    /// protocol, so that a crash in between loses nothing.
    pub(crate) async fn adopt(
        self: &Arc<Self>,
        client: &TokenClient,
        request: &SignIn,
        refresh_token: SecretString,
    ) -> Result<SignedIn, SessionError> {
        self.prove_writable().await?;
        client.load_metadata().await.map_err(|error| SessionError::SignIn(Arc::new(error)))?;
        let mut record = self.new_record(client, request, Flow::RefreshToken)?;
        record.refresh_token = Some(refresh_token);
        record.issuer = Some(client.cached());
        let before = self.reload_to_replace().await?;
        let sign_in = record.sign_in.clone();
        let replaced = self.put_over(record, true).await?;
        let order = Order { after: Some(0), explicit: true, ..Order::default() };
        let renewed = Arc::clone(self).serve(order).await;
        if let Err(error) = renewed {
            let ended = matches!(error.login_required(), Some(crate::LoginReason::Ended(_)));
            if ended {
                self.put_back(&before, &sign_in).await?;
            }
            return Err(error);
        }
        if let Some(old) = &replaced {
            self.revoke_replaced(old).await;
        }
        self.signed_in(replaced.as_ref()).await
    }

    /// A dead token was brought: what was stored before is still the best there is.
    async fn put_back(&self, before: &Known, sign_in: &str) -> Result<(), SessionError> {
        let now = self.reload().await?;
        let (Some(record), Some(revision)) = (&now.record, now.revision) else { return Ok(()) };
        if record.sign_in != sign_in {
            return Ok(());
        }
        let Some(old) = before.record.as_ref().filter(|old| old.state == State::Active) else {
            return Ok(());
        };
        self.shared().identity = None;
        match self.store.put(&self.key, &old.encode()?, Expected::At(revision)).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => self.reload().await.map(drop),
            Err(error) => Err(error.into()),
        }
    }

    fn new_record(&self, client: &TokenClient, request: &SignIn, flow: Flow) -> Result<Record, SessionError> {
        let id = random::id().ok_or(SessionError::System { what: "random numbers" })?;
        let settings = StoredSettings::from_settings(&Settings::of(client, request, flow));
        Ok(Record::new(id, settings, Moment::now(&*self.clock)))
    }

    /// A person's sign-in must not end at a full or unwritable store: taking the lease makes sure of room for one put. If
    /// another process holds it, that one has made sure.
    async fn prove_writable(&self) -> Result<(), SessionError> {
        match self.store.lease(&self.key, Duration::ZERO).await {
            Ok(lease) => Ok(lease.release().await?),
            Err(StoreError::LeaseHeld { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, record: Record) -> Result<SignedIn, SessionError> {
        let replaced = self.put_over(record, true).await?;
        if let Some(old) = &replaced {
            self.revoke_replaced(old).await;
        }
        self.signed_in(replaced.as_ref()).await
    }

    /// Puts `record` over whatever is stored, and gives what that was. This handle is bound to the new identity.
    async fn put_over(&self, record: Record, rebind: bool) -> Result<Option<Record>, SessionError> {
        let value = record.encode()?;
        loop {
            let now = self.reload_to_replace().await?;
            let expected = match now.revision {
                Some(revision) => Expected::At(revision),
                None if now.record.is_none() => Expected::Any,
                None => Expected::Absent,
            };
            match self.store.put(&self.key, &value, expected).await {
                Ok(revision) => {
                    if rebind {
                        self.shared().identity = Some(record.identity());
                    }
                    let replaced = now.record.clone();
                    self.publish(Known { record: Some(record), revision: Some(revision) });
                    return Ok(replaced);
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Revokes what a sign-in replaced, only if it was somebody else's: where an issuer revokes by grant, revoking the same
    /// identity's old token would kill the new one. Best effort: the sign-in is done.
    async fn revoke_replaced(&self, old: &Record) {
        let Ok(now) = self.reload().await else { return };
        let Some(new) = &now.record else { return };
        let (was, is) = (old.identity(), new.identity());
        let subjects_differ = matches!((&was.subject, &is.subject), (Some(was), Some(is)) if was != is);
        if was.issuer == is.issuer && was.client_id == is.client_id && !subjects_differ {
            return;
        }
        let Some(token) = old.refresh_token.as_ref().filter(|_| old.state == State::Active) else { return };
        let Ok(client) = old.settings.to_settings().client(Arc::clone(&self.clock)) else { return };
        if let Some(issuer) = &old.issuer {
            client.prime(issuer.clone());
        }
        if let Err(error) = client.revoke(token, TokenTypeHint::RefreshToken).await
            && error.kind() != TokenErrorKind::InvalidGrant
        {
            tracing::warn!(code = ?error.kind(), "the replaced session's refresh token could not be revoked");
        }
    }

    async fn signed_in(&self, replaced: Option<&Record>) -> Result<SignedIn, SessionError> {
        let known = self.reload().await?;
        let record = known.record.as_ref();
        let access = record.and_then(|record| record.access_for(None, None));
        Ok(SignedIn {
            subject: record.and_then(|record| record.subject.clone()),
            expires_at: access.and_then(|access| access.expires_at()),
            scope: access.and_then(|access| access.granted.clone()),
            renewable: record.is_some_and(is_renewable),
            replaced: replaced.is_some_and(|old| old.state == State::Active),
        })
    }
}
