//! A keychain in memory, which can be made to fail.

use std::collections::HashMap;
use std::sync::Mutex;

use tokenkeep_store::{KeyId, Keychain, SecretString, StoreError};

#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) kept: Mutex<HashMap<KeyId, SecretString>>,
    pub(crate) broken: Mutex<bool>,
}

impl Chain {
    fn check(&self) -> Result<(), StoreError> {
        match *self.broken.lock().unwrap() {
            true => Err(StoreError::Keychain { reason: "it is locked".to_owned() }),
            false => Ok(()),
        }
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.kept.lock().unwrap().keys().copied().collect()
    }
}

impl Keychain for Chain {
    fn load(&self, key_id: KeyId) -> Result<Option<SecretString>, StoreError> {
        self.check()?;
        Ok(self.kept.lock().unwrap().get(&key_id).cloned())
    }

    fn save(&self, key_id: KeyId, identity: &SecretString) -> Result<(), StoreError> {
        self.check()?;
        self.kept.lock().unwrap().insert(key_id, identity.clone());
        Ok(())
    }

    fn remove(&self, key_id: KeyId) -> Result<(), StoreError> {
        self.check()?;
        self.kept.lock().unwrap().remove(&key_id);
        Ok(())
    }
}
