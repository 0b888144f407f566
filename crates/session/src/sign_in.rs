//! Signing in: replaces whatever is stored under the name, by compare-and-swap and without the lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokenkeep_auth0::{
    Answer, Flow, Grant, IdTokenExpectations, IdTokenVerdict, SignInRequest, TokenClient, TokenErrorKind,
    TokenTypeHint,
};
use tokenkeep_secret::SecretString;
use tokenkeep_store::{Expected, StoreError};
use tokio::sync::watch;

use crate::core::{Core, Known};
use crate::error::{LoginReason, Refusal};
use crate::moment::Moment;
use crate::record::{EndReason, Record, State};
use crate::renewal::{Order, holder, is_renewable};
use crate::serve::finished;
use crate::settings::{Settings, SignIn, StoredSettings};
use crate::settle::{Exchange, access_of, grant, refusal};
use crate::{SessionError, random, thread};

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
        // A caller that gives up from here on must not lose what the person has just signed in for.
        let (core, client, request) = (Arc::clone(self), client.clone(), request.clone());
        let flow = grant_of.flow();
        thread::run(async move { core.keep_sign_in(&client, &request, flow, &answer).await }).await?
    }

    async fn keep_sign_in(
        self: &Arc<Self>,
        client: &TokenClient,
        request: &SignIn,
        flow: Flow,
        answer: &Answer,
    ) -> Result<SignedIn, SessionError> {
        let mut record = self.new_record(client, request, flow)?;
        let exchange = Exchange { attempt: 1, sent: None, cut_off: false, order: Order::default() };
        record.attempt = 1;
        record.refresh_token = answer.refresh_token.clone();
        self.judge_first(client, &mut record, answer, &exchange).await?;
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
        client.load_metadata().await.map_err(|error| SessionError::SignIn(Arc::new(error)))?;
        let mut record = self.new_record(client, request, Flow::RefreshToken)?;
        record.refresh_token = Some(refresh_token);
        record.issuer = Some(client.cached());
        // Under the lease no renewal of what is stored is under way, whose answer would be lost if it is put back.
        let lease = match self.store.lease(&self.key, self.waits.lease).await {
            Ok(lease) => lease,
            Err(StoreError::LeaseHeld { waited }) => {
                return Err(SessionError::Busy(holder(self.note().await?.as_ref(), waited)));
            }
            Err(error) => return Err(error.into()),
        };
        let here = self.begin_here()?;
        let (adopted, replaced) = self.put_over(record).await?;
        let (sender, outcome) = watch::channel(None);
        let (core, old) = (Arc::clone(self), replaced.clone());
        thread::spawn(async move {
            let _here = here;
            let order = Order { after: Some(adopted.attempt), explicit: true, ..Order::default() };
            let mut outcome = core.renew_under(&lease, &order, &sender).await;
            if let Err(error) = &outcome
                && let Some(old) = old.filter(|old| old.state == State::Active)
                && let Err(error) = core.put_back(&old, &adopted, error).await
            {
                outcome = Err(error);
            }
            if let Err(error) = lease.release().await {
                tracing::debug!(%error, "the lease ends with this handle instead");
            }
            sender.send_replace(Some(outcome));
        })?;
        finished(outcome).await?;
        if let Some(old) = &replaced {
            self.revoke_replaced(old).await;
        }
        self.signed_in(replaced.as_ref()).await
    }

    /// What was brought could not be used: what was stored before is still the best there is, unless the issuer has, or
    /// may have, put something in the place of what was brought.
    async fn put_back(
        &self,
        old: &Record,
        adopted: &Record,
        error: &SessionError,
    ) -> Result<(), SessionError> {
        let now = self.reload().await?;
        let (Some(record), Some(revision)) = (&now.record, now.revision) else { return Ok(()) };
        // Signing out wins, and means the session that was there as well.
        if record.end().is_some_and(|end| end.reason == EndReason::SignedOut) {
            if let Some(token) = &old.refresh_token {
                self.revoke_brought(&self.client(old)?, token).await;
            }
            return Ok(());
        }
        let is_spent = match error {
            SessionError::RenewalFailed(failure) => failure.outcome_unknown,
            SessionError::LoginRequired(LoginReason::MfaRequired(failure)) => failure.outcome_unknown,
            SessionError::LoginRequired(LoginReason::Ended(_)) => false,
            _ => true,
        };
        let is_kept = record.state == State::Active && record.refresh_token != adopted.refresh_token;
        if record.sign_in != adopted.sign_in || is_spent || is_kept {
            return Ok(());
        }
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
        match self.reload().await {
            // A sign-in is what mends it.
            Err(SessionError::Store(error)) if matches!(*error, StoreError::Corrupt { .. }) => {}
            outcome => drop(outcome?),
        }
        match self.store.lease(&self.key, Duration::ZERO).await {
            Ok(lease) => Ok(lease.release().await?),
            Err(StoreError::LeaseHeld { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, record: Record) -> Result<SignedIn, SessionError> {
        let (_, replaced) = self.put_over(record).await?;
        if let Some(old) = &replaced {
            self.revoke_replaced(old).await;
        }
        self.signed_in(replaced.as_ref()).await
    }

    /// Puts `brought` over whatever is stored, and gives what is stored now and what was. This handle is bound to the new
    /// identity.
    async fn put_over(&self, brought: Record) -> Result<(Record, Option<Record>), SessionError> {
        loop {
            let (now, unseen) = match self.reload().await {
                Ok(now) => (now, Expected::Absent),
                // What cannot be read is replaced as well: signing in again is how one mends it.
                Err(SessionError::Store(error)) if matches!(*error, StoreError::Corrupt { .. }) => {
                    let revision = self.store.revision(&self.key).await.unwrap_or(None);
                    (Arc::new(Known { record: None, revision }), Expected::Any)
                }
                Err(error) => return Err(error),
            };
            let record = brought.clone().following(now.record.as_ref());
            let value = record.encode()?;
            let expected = now.revision.map_or(unseen, Expected::At);
            match self.store.put(&self.key, &value, expected).await {
                Ok(revision) => {
                    self.shared().identity = Some(record.identity());
                    let replaced = now.record.clone();
                    self.publish(Known { record: Some(record.clone()), revision: Some(revision) });
                    return Ok((record, replaced));
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
        if old.identity().agrees_with(&new.identity()) {
            return;
        }
        let active = old.refresh_token.as_ref().filter(|_| old.state == State::Active);
        let Ok(client) = old.settings.to_settings().client(Arc::clone(&self.clock)) else { return };
        if let Some(issuer) = &old.issuer {
            client.prime(issuer.clone());
        }
        for token in old.to_revoke.iter().chain(active) {
            if let Err(error) = client.revoke(token, TokenTypeHint::RefreshToken).await
                && error.kind() != TokenErrorKind::InvalidGrant
            {
                tracing::warn!(code = ?error.kind(), "the replaced session's refresh token could not be revoked");
            }
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
