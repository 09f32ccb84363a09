use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::ssl_config::{SslConfig, SslConfigError};

/// TLS 1.2 and 1.3 for a listener, with or without clients' certificates.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

/// Says nothing of what is in it: there is a private key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// # Errors
    /// For a key or a certificate that cannot be used, or that do not belong together.
    pub fn new(config: &SslConfig) -> Result<Self, SslConfigError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = client_verifier(config, &provider)?;
        let chain = certificates("server_cert", &config.server_cert)?;
        let key = PrivateKeyDer::from_pem_slice(config.server_key.as_bytes())
            .map_err(|_| SslConfigError::NotPem { field: "server_key", what: "private key" })?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(SslConfigError::Identity)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(SslConfigError::Identity)?;
        Ok(Self { config: Arc::new(config) })
    }

    /// The same for a listener that speaks this protocol: clients that name others alone
    /// are refused in the handshake.
    pub(super) fn speaking(&self, protocol: &[u8]) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.alpn_protocols = vec![protocol.to_vec()];
        Self { config: Arc::new(config) }
    }

    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config.clone()).accept(stream).await
    }
}

fn client_verifier(
    config: &SslConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, SslConfigError> {
    if !config.client_verify {
        return Ok(Arc::new(NoClientAuth));
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates("custom_ca", &config.custom_ca)? {
        roots.add(certificate).map_err(|error| SslConfigError::ClientRoots(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| SslConfigError::ClientRoots(error.to_string()))
}

/// One certificate or more.
fn certificates(
    field: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, SslConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or(SslConfigError::NotPem { field, what: "certificate" })
}
