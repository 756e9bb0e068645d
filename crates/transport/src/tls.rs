//! Mutual TLS from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// HTTP/2 is all that is spoken.
const PROTOCOL: &[u8] = b"h2";

/// PEM files of a node. Both sides of a connection must show a certificate that the CA signed; a
/// server's must name the host that it was called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates of the CA.
    pub ca: PathBuf,
    /// This node's certificate, with those between it and the CA.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// TLS cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[error("TLS between nodes: {file}: {reason}")]
pub struct TlsError {
    file: String,
    reason: String,
}

impl TlsError {
    fn new(file: &Path, reason: impl ToString) -> Self {
        Self {
            file: file.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| TlsError::new(file, error))?
        .collect();
    let found = found.map_err(|error| TlsError::new(file, error))?;
    if found.is_empty() {
        return Err(TlsError::new(file, "there is no certificate in it"));
    }
    Ok(found)
}

impl TlsOptions {
    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots
                .add(certificate)
                .map_err(|error| TlsError::new(&self.ca, error))?;
        }
        Ok(Arc::new(roots))
    }

    fn own(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| TlsError::new(&self.key, error))?;
        Ok((certificates(&self.certificate)?, key))
    }

    pub(crate) fn connector(&self) -> Result<TlsConnector, TlsError> {
        let named = |error| TlsError::new(&self.certificate, error);
        let (chain, key) = self.own()?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(named)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(named)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let named = |error| TlsError::new(&self.certificate, error);
        let (chain, key) = self.own()?;
        let clients = WebPkiClientVerifier::builder_with_provider(self.roots()?, provider())
            .build()
            .map_err(|error| TlsError::new(&self.ca, error))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(named)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(named)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
