//! Making a vault: which ways in it gets.

use std::fmt;
use std::sync::Arc;

use tokenkeep_secret::Secret;

use super::{Opening, Place};
use crate::vault::{NewWayIn, Opener, Unlock, Vault};
use crate::{Sources, StoreError};

/// The ways in that were asked for by name, besides the source that is set.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Public keys, and what to call them.
    recipients: Vec<(String, String)>,
    /// What to call the passphrase, if there is to be one.
    passphrase: Option<String>,
    /// What to call the keychain's key, if there is to be one.
    keychain: Option<String>,
    /// What to call the way in for the source that is set.
    label: String,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.recipients.is_empty() && self.passphrase.is_none() && self.keychain.is_none()
    }
}

/// Is told every passphrase for a new vault before the vault is made.
#[derive(Clone, Default)]
pub(super) struct Judge(Option<Arc<Judgement>>);

type Judgement = dyn Fn(&Secret) + Send + Sync;

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

impl Opening {
    /// Gives a new vault a way in for the private key of `recipient`, such as a recovery key: of any kind
    /// that [`NewWayIn::Recipient`] takes.
    #[must_use]
    pub fn recipient(mut self, recipient: impl Into<String>, label: impl Into<String>) -> Self {
        self.wanted.recipients.push((recipient.into(), label.into()));
        self
    }

    /// Gives a new vault a way in by passphrase: from the first source that is set and holds one, else one that a person
    /// types twice.
    #[must_use]
    pub fn with_passphrase(mut self, label: impl Into<String>) -> Self {
        self.wanted.passphrase = Some(label.into());
        self
    }

    /// Gives a new vault a way in by a key that the OS keychain keeps.
    #[must_use]
    pub fn with_keychain(mut self, label: impl Into<String>) -> Self {
        self.wanted.keychain = Some(label.into());
        self
    }

    /// What to call the way into a new vault that comes from the source that is set, or from what stands in for it.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.wanted.label = label.into();
        self
    }

    /// Shows every passphrase for a new vault to `judge`, before the vault is made: it may be weak.
    #[must_use]
    pub fn judge_passphrases(mut self, judge: impl Fn(&Secret) + Send + Sync + 'static) -> Self {
        self.judge = Judge(Some(Arc::new(judge)));
        self
    }

    /// Makes a new vault. The first source that is set gets a way in, and so does all that was asked for by
    /// [`Opening::recipient`], [`Opening::with_passphrase`] and [`Opening::with_keychain`]. With neither, the OS keychain
    /// keeps a key for it, else a person types a passphrase twice. With the vault comes the name of the source that opens
    /// it, if one does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if there is one; [`StoreError::NoUnlockSource`] if nothing is set or asked for, the keychain
    /// cannot be used and nobody can be asked; those of [`Opening::place`], [`Sources::unlock`] and
    /// [`crate::VaultOptions::create`].
    pub async fn make_vault(&self) -> Result<(Vault, Option<String>), StoreError> {
        let place = self.place()?;
        match self.make_at(&place, false).await? {
            Made::Here(vault, source) => Ok((vault, source)),
            Made::Elsewhere(vault) => Ok((vault, None)),
        }
    }

    /// Makes a vault, or opens the one that another made meanwhile if `join` says so.
    pub(super) async fn make_at(&self, place: &Place, join: bool) -> Result<Made, StoreError> {
        if let Some(unlock) = self.fetch(place, |sources, path| sources.set_for_new(path)).await? {
            return self.make_by(place, Some(unlock), join).await;
        }
        if !self.wanted.is_nothing() {
            return self.make_by(place, None, join).await;
        }
        let mut keychain = None;
        if let Some(unlock) = self.sources.keychain_for_new() {
            match self.make_by(place, Some(unlock), join).await {
                Err(error @ StoreError::Keychain { .. }) => keychain = Some(error),
                other => return other,
            }
        }
        match self.fetch(place, |sources, path| sources.typed_for_new(path).transpose()).await? {
            Some(unlock) => self.make_by(place, Some(unlock), join).await,
            None => Err(self.sources.nothing_for_new(keychain.as_ref())),
        }
    }

    async fn make_by(&self, place: &Place, set: Option<Unlock>, join: bool) -> Result<Made, StoreError> {
        let typed = match (&self.wanted.passphrase, set.as_ref().map(|set| &set.opener)) {
            (None, _) | (_, Some(Opener::Passphrase(_))) => None,
            (Some(_), _) => Some(self.fetch(place, Sources::passphrase_for_new).await?),
        };
        let ways = self.new_ways(set.as_ref(), typed.as_ref())?;
        for way in &ways {
            if let (NewWayIn::Passphrase { secret, .. }, Some(judge)) = (way, &self.judge.0) {
                judge(secret);
            }
        }
        let unlock = set.or(typed);
        let options = self.pinned_options(place)?;
        match (options.create(&place.path, ways).await, &unlock) {
            (Ok(vault), _) => Ok(Made::Here(vault, unlock.map(|unlock| unlock.source))),
            (Err(StoreError::Exists { .. }), Some(unlock)) if join => {
                Ok(Made::Elsewhere(options.open(&place.path, unlock).await?))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The ways into a new vault: what `set` opens, and what was asked for. A public key that is both is one way in.
    fn new_ways(&self, set: Option<&Unlock>, typed: Option<&Unlock>) -> Result<Vec<NewWayIn>, StoreError> {
        let wanted = &self.wanted;
        let passphrase = |secret: &Secret, label: &str| NewWayIn::Passphrase {
            secret: secret.clone(),
            costs: self.costs,
            label: label.to_owned(),
        };
        let mut ways = Vec::new();
        match set.map(|set| (&set.opener, set)) {
            Some((Opener::Passphrase(secret), _)) => {
                ways.push(passphrase(secret, wanted.passphrase.as_deref().unwrap_or(&wanted.label)));
            }
            Some((Opener::Identity(text), set)) => {
                // What stands behind an SSH key is a comment.
                let key = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
                let named: Vec<_> = wanted.recipients.iter().map(|(recipient, _)| key(recipient)).collect();
                let own = set.identities(text)?.new_ways(set)?;
                ways.extend(own.into_iter().map(|way| way.labelled(&wanted.label)).filter(|way| {
                    !matches!(way, NewWayIn::Recipient { recipient, .. } if named.contains(&key(recipient)))
                }));
            }
            Some((Opener::Keychain(keychain), _)) => ways.push(NewWayIn::Keychain {
                keychain: Arc::clone(keychain),
                label: wanted.keychain.clone().unwrap_or_else(|| wanted.label.clone()),
            }),
            None => {}
        }
        ways.extend(wanted.recipients.iter().map(|(recipient, label)| NewWayIn::Recipient {
            recipient: recipient.clone(),
            label: label.clone(),
        }));
        if let Some(Unlock { opener: Opener::Passphrase(secret), .. }) = typed {
            ways.push(passphrase(secret, wanted.passphrase.as_deref().unwrap_or_default()));
        }
        let has_keychain = ways.iter().any(|way| matches!(way, NewWayIn::Keychain { .. }));
        if let Some(label) = &wanted.keychain
            && !has_keychain
        {
            ways.push(NewWayIn::Keychain { keychain: self.sources.keychain_in_use()?, label: label.clone() });
        }
        Ok(ways)
    }
}

/// A vault that was made, by whom.
pub(super) enum Made {
    /// Here, and the name of the source that opens it.
    Here(Vault, Option<String>),
    /// By another process meanwhile.
    Elsewhere(Vault),
}
