//! The environment, as a value that is passed in.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

/// Where variables are looked up: the process's environment, or any other for tests and embedders.
///
/// `Debug` shows nothing of it, since a variable can be a passphrase.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

impl Environment {
    /// The environment of this process, read anew at each look-up.
    pub fn process() -> Self {
        Self::from_fn(|name| std::env::var_os(name))
    }

    /// An environment without a single variable.
    pub fn empty() -> Self {
        Self::from_fn(|_| None)
    }

    /// An environment that `lookup` answers for.
    pub fn from_fn(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The value of `name`, if it is set; it may be empty.
    pub fn var(&self, name: &str) -> Option<OsString> {
        (self.0)(name)
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::process()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables: HashMap<String, OsString> =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self::from_fn(move |name| variables.get(name).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_answers_for_what_it_was_made_of_and_shows_nothing() {
        let environment: Environment = [("TOKENKEEP_PASSPHRASE", "canary")].into_iter().collect();
        assert_eq!(environment.var("TOKENKEEP_PASSPHRASE"), Some("canary".into()));
        assert_eq!(environment.var("PATH"), None);
        assert_eq!(format!("{environment:?}"), "Environment");
        assert_eq!(Environment::empty().var("PATH"), None);
    }
}
