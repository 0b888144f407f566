//! What can go wrong around the mock itself. What goes wrong inside a request is an answer, not an error.

use std::io;

/// Why the mock could not be started, or did not take an instruction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MockError {
    /// The address is taken or may not be listened on. Choose another port, or 0 for a free one.
    #[error("mock-auth0 cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Listen {
        /// What was asked for.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server's thread or its runtime could not be started.
    #[error("mock-auth0 cannot start its server thread: {0}")]
    Thread(#[source] io::Error),
    /// A signing key could not be read or made.
    #[error("mock-auth0 cannot use its signing key: {0}")]
    Key(String),
    /// The CA or the server's certificate could not be made.
    #[error("mock-auth0 cannot make its certificates: {0}")]
    Tls(String),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// A user, client, API, device code or token of that name is not known to the mock.
    #[error("mock-auth0 knows no {what} `{name}`; add it with the builder first")]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name. Never a secret.
        name: String,
    },
    /// A setting has a value or a name that the mock does not have.
    #[error("mock-auth0 does not take these settings: {0}")]
    Settings(String),
}
