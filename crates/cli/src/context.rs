//! What a command works with: the settings of this run, and the store and session they name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokenkeep::config::Config;
use tokenkeep::session::{Session, SessionBuilder, SessionError};
use tokenkeep::store::{
    Environment, Keychain, Opening, SecretStore, Source, Sources, SystemKeychain, VaultOptions,
};

use crate::args::Global;
#[cfg(target_os = "linux")]
use crate::deputy::Outliving;
use crate::exit::CommandError;
use crate::input;
use crate::output::Output;
use crate::prompt::Prompt;
use crate::wait;

/// The settings of this run. A flag beats a variable beats `config.toml`.
pub(crate) struct Context {
    /// How this run prints.
    pub(crate) output: Output,
    /// Whether somebody can be asked.
    pub(crate) prompt: Prompt,
    global: Global,
    config: Config,
}

impl Context {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// A usage error for a configuration that cannot be used.
    pub(crate) fn new(global: Global, output: Output) -> Result<Self, CommandError> {
        let config = Config::load()?;
        Ok(Self { output, prompt: Prompt::new(global.no_input), global, config })
    }

    /// How long the command may take, if that is limited.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.global.timeout.or_else(|| self.config.timeout.as_ref().map(|setting| setting.value))
    }

    /// How long a command waits for renewals that are under way: a minute, in which one ends, unless told otherwise. It is
    /// to end before the command does, which could not say whom it waited for.
    pub(crate) fn lease_wait(&self) -> Duration {
        self.timeout().map_or(Duration::from_secs(60), |limit| limit.mul_f32(0.9))
    }

    /// Refuses a run in which more than one of `inputs` (a flag, and the file that it names) and of what opens the vault is
    /// standard input, which can be read once. Called before anything is read.
    ///
    /// # Errors
    ///
    /// A usage error that names them.
    pub(crate) fn standard_input_once(
        &self,
        inputs: &[(&str, Option<&Path>)],
        help: impl Into<String>,
    ) -> Result<(), CommandError> {
        let named = inputs.iter().filter(|(_, path)| path.is_some_and(input::is_stdin));
        let mut all: Vec<String> = named.map(|(flag, _)| (*flag).to_owned()).collect();
        all.extend(self.opened_from_stdin());
        if all.len() > 1 {
            let all = all.join(" and ");
            return Err(CommandError::usage(format!("standard input can be read once, not for {all}"), help));
        }
        Ok(())
    }

    /// What names standard input as the source that opens the vault, if something does.
    fn opened_from_stdin(&self) -> Option<String> {
        if self.passphrase_from_stdin() {
            return Some("--passphrase-file".to_owned());
        }
        self.named_sources(Environment::process()).reads_standard_input()
    }

    fn passphrase_from_stdin(&self) -> bool {
        self.global.passphrase_file.as_deref() == Some(input::STDIN.as_ref())
    }

    /// Opens the store and the session in it.
    ///
    /// # Errors
    ///
    /// What the store or the session says.
    pub(crate) async fn session(&self) -> Result<Session, CommandError> {
        let store = self.store().await?;
        self.open(store).await
    }

    /// The same for a command that may renew the session: that is not left half done.
    ///
    /// # Errors
    ///
    /// What the store or the session says.
    pub(crate) async fn renewable_session(&self) -> Result<Session, CommandError> {
        let vault = self.opening(self.prompt)?.open_vault().await?;
        let builder = self.builder(Arc::new(vault.clone()))?;
        #[cfg(target_os = "linux")]
        let builder = builder.deputy(Arc::new(Outliving::new(vault)));
        let session = builder.build().await?;
        wait::watch(&session);
        Ok(session)
    }

    /// Opens the store, which must exist.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub(crate) async fn store(&self) -> Result<Arc<dyn SecretStore>, CommandError> {
        Ok(self.opening(self.prompt)?.open().await?)
    }

    /// Opens the session that this run names.
    ///
    /// # Errors
    ///
    /// What the session says.
    pub(crate) async fn open(&self, store: Arc<dyn SecretStore>) -> Result<Session, CommandError> {
        Ok(self.builder(store)?.build().await?)
    }

    fn builder(&self, store: Arc<dyn SecretStore>) -> Result<SessionBuilder, CommandError> {
        Ok(Session::builder(store, &self.session_name()?).lease_wait(self.lease_wait()))
    }

    /// The OS keychain.
    pub(crate) fn keychain(&self) -> Arc<dyn Keychain> {
        Arc::new(SystemKeychain::new())
    }

    /// Where the store is and what opens it. A passphrase on standard input is read now.
    ///
    /// # Errors
    ///
    /// A usage error if standard input holds no passphrase.
    pub(crate) fn opening(&self, prompt: Prompt) -> Result<Opening, CommandError> {
        let environment = Environment::process();
        let mut opening = Opening::new(environment.clone()).sources(self.sources(environment, prompt)?);
        if let Some(store) = &self.global.store {
            opening = opening.store("--store", store);
        }
        if let Some(path) = &self.global.vault {
            opening = opening.vault("--vault", path);
        }
        Ok(self.config.place(opening))
    }

    /// As [`Context::opening`], for a vault that may be damaged: the sessions that this machine is likely to have are told by
    /// name, even if no record of them opens.
    ///
    /// # Errors
    ///
    /// As [`Context::opening`].
    pub(crate) fn damaged_opening(&self, prompt: Prompt) -> Result<Opening, CommandError> {
        let likely = [Ok("default".to_owned()), self.session_name()];
        let keys = likely.into_iter().flatten().filter_map(|name| Session::key_of(&name).ok());
        Ok(self.opening(prompt)?.options(VaultOptions::new().likely_names(keys)))
    }

    fn sources(&self, environment: Environment, prompt: Prompt) -> Result<Sources, CommandError> {
        let mut sources = self.named_sources(environment).keychain(self.keychain());
        if let Some(path) = self.global.passphrase_file.as_ref().filter(|_| self.passphrase_from_stdin()) {
            let passphrase = input::passphrase("--passphrase-file", path)?;
            sources = sources.given("--passphrase-file", Source::Passphrase(passphrase));
        }
        Ok(match prompt.refusal() {
            None => sources.prompt(Arc::new(prompt)),
            Some(reason) => sources.without_prompt(reason),
        })
    }

    /// What flags, variables and configuration name. Nothing of it is read.
    fn named_sources(&self, environment: Environment) -> Sources {
        let mut sources = Sources::new(environment);
        if let Some(path) = &self.global.identity {
            sources = sources.given("--identity", Source::IdentityFile(path.clone()));
        }
        if let Some(path) = &self.global.passphrase_file {
            sources = sources.given("--passphrase-file", Source::PassphraseFile(path.clone()));
        }
        self.config.sources(sources)
    }

    /// The name of the session: a flag beats a variable beats the configuration.
    fn session_name(&self) -> Result<String, SessionError> {
        if let Some(name) = &self.global.session {
            return Ok(name.clone());
        }
        match std::env::var_os("TOKENKEEP_SESSION") {
            Some(name) => name.into_string().map_err(|_| SessionError::InvalidName),
            None => Ok(self
                .config
                .session
                .as_ref()
                .map_or_else(|| "default".to_owned(), |name| name.value.clone())),
        }
    }
}
