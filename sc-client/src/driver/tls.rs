//! TLS by rustls on aws-lc, named explicitly: nothing process-wide is installed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::target::ConnectError;

/// Whom to trust and how to prove who one is, for `wss://`. Cloning shares it, so that thousands of clients have one.
///
/// ```no_run
/// use sc_client::{Client, Tls};
///
/// let tls = Tls::builder().ca_file("ca.pem")?.client_certificate("client.pem", "client-key.pem")?.build()?;
/// let client = Client::builder("wss://example.com/socketcluster/").tls(&tls).connect()?;
/// # Ok::<(), sc_client::ConnectError>(())
/// ```
#[derive(Clone)]
pub struct Tls(pub(super) Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// The system's roots, and no certificate of the client.
    ///
    /// # Errors
    /// The system has no roots.
    pub fn system() -> Result<Self, ConnectError> {
        Self::builder().system_roots()?.build()
    }

    /// Trusts nobody yet.
    #[must_use]
    pub fn builder() -> TlsBuilder {
        TlsBuilder { roots: RootCertStore::empty(), own: None }
    }

    /// Any other configuration of rustls.
    #[must_use]
    pub const fn from_config(config: Arc<ClientConfig>) -> Self {
        Self(config)
    }
}

/// Collects what a [`Tls`] consists of.
pub struct TlsBuilder {
    roots: RootCertStore,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl fmt::Debug for TlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsBuilder").field("roots", &self.roots.len()).field("own", &self.own.is_some()).finish()
    }
}

impl TlsBuilder {
    /// Trusts the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    ///
    /// # Errors
    /// There are none.
    pub fn system_roots(mut self) -> Result<Self, ConnectError> {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = self.roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(ConnectError::Tls(format!("the system has no usable root certificates{why}")));
        }
        Ok(self)
    }

    /// Trusts the certificates in PEM text.
    ///
    /// # Errors
    /// There are none, or they cannot be used.
    pub fn ca_pem(mut self, pem: &[u8]) -> Result<Self, ConnectError> {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| ConnectError::Tls(format!("a CA's PEM: {error}")))?;
            self.roots.add(certificate).map_err(|error| ConnectError::Tls(format!("a CA: {error}")))?;
            added += 1;
        }
        if added == 0 {
            return Err(ConnectError::Tls("no certificate in the CA's PEM".to_owned()));
        }
        Ok(self)
    }

    /// Trusts the certificates in a PEM file.
    ///
    /// # Errors
    /// It cannot be read, or as [`ca_pem`](Self::ca_pem).
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        self.ca_pem(&std::fs::read(path)?)
    }

    /// Proves who one is with a certificate chain and its key (PKCS#8, PKCS#1 or SEC1), both PEM files.
    ///
    /// # Errors
    /// They cannot be read, or hold no certificate or key.
    pub fn client_certificate(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, ConnectError> {
        let (chain, key) = (std::fs::read(chain)?, std::fs::read(key)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain.map_err(|error| ConnectError::Tls(format!("the client's certificate: {error}")))?;
        let key = PrivateKeyDer::from_pem_slice(&key);
        let key = key.map_err(|error| ConnectError::Tls(format!("the client's key: {error}")))?;
        self.own = Some((chain, key));
        Ok(self)
    }

    /// The configuration.
    ///
    /// # Errors
    /// Certificate and key do not belong together, or no CA is trusted.
    pub fn build(self) -> Result<Tls, ConnectError> {
        let broken = |error: rustls::Error| ConnectError::Tls(error.to_string());
        if self.roots.is_empty() {
            return Err(ConnectError::Tls("no CA is trusted".to_owned()));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .with_root_certificates(self.roots);
        let config = match self.own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(broken)?,
        };
        Ok(Tls(Arc::new(config)))
    }
}
