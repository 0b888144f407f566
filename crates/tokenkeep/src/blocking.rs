//! Sessions for code that is not async (feature `blocking`): no runtime is needed.
//!
//! ```no_run
//! use tokenkeep::blocking::{Session, open_store};
//!
//! let session = Session::open(open_store()?, "default")?;
//! println!("good until {:?}", session.access_token()?.expires_at());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use tokenkeep_session::blocking::{Events, Session, discover, run};

#[cfg(feature = "vault")]
pub use self::vault::{open_or_make_store, open_store};

#[cfg(feature = "vault")]
mod vault {
    use std::sync::Arc;

    use tokenkeep_session::SessionError;
    use tokenkeep_session::blocking::run;
    use tokenkeep_store::SecretStore;

    /// As [`crate::open_store`].
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] with what [`crate::open_store`] says.
    pub fn open_store() -> Result<Arc<dyn SecretStore>, SessionError> {
        Ok(run(crate::open_store())??)
    }

    /// As [`crate::open_or_make_store`].
    ///
    /// # Errors
    ///
    /// [`SessionError::Store`] with what [`crate::open_or_make_store`] says.
    pub fn open_or_make_store() -> Result<Arc<dyn SecretStore>, SessionError> {
        Ok(run(crate::open_or_make_store())??)
    }
}
