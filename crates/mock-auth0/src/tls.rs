//! A CA made at start, and the server's certificate under it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::error::MockError;

/// What serves TLS, and the CA's certificate for clients to trust.
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) ca_pem: String,
}

impl Tls {
    /// A certificate for `localhost`, 127.0.0.1, ::1 and `host`.
    pub(crate) fn new(host: &str) -> Result<Self, MockError> {
        let ca_key = KeyPair::generate().map_err(|e| tls_error(&e))?;
        let mut ca = CertificateParams::new(Vec::new()).map_err(|e| tls_error(&e))?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "mock-auth0 test CA");
        let ca_cert = ca.self_signed(&ca_key).map_err(|e| tls_error(&e))?;
        let ca_pem = ca_cert.pem();
        let issuer = Issuer::new(ca, ca_key);

        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        if !names.iter().any(|name| name == host) {
            names.push(host.to_owned());
        }
        let mut leaf = CertificateParams::new(names).map_err(|e| tls_error(&e))?;
        leaf.distinguished_name.push(DnType::CommonName, "mock-auth0");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf_key = KeyPair::generate().map_err(|e| tls_error(&e))?;
        let cert = leaf.signed_by(&leaf_key, &issuer).map_err(|e| tls_error(&e))?;
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|e| tls_error(&e))?;

        // The provider is named here: a process-wide default would depend on who else is in the build.
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| tls_error(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .map_err(|e| tls_error(&e))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem })
    }
}

fn tls_error(error: &dyn std::fmt::Display) -> MockError {
    MockError::Tls(error.to_string())
}
