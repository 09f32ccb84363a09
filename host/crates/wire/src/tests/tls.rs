use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ingle_types::Limits;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::grpc::{one, predict, spec};
use super::http::Http;
use super::limits::hasty;
use super::peer::{PREDICT, Peer, framed};
use super::server::Server;
use crate::Tls;
use crate::ssl_config::SslConfig;

/// Who issues certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    fn config(&self, client_verify: bool) -> SslConfig {
        let Identity { certificate, key } = self.issue();
        let custom_ca = if client_verify { self.0.pem() } else { String::new() };
        SslConfig { server_key: key, server_cert: certificate, custom_ca, client_verify }
    }

    async fn server(&self, client_verify: bool, limits: Limits) -> Server {
        Server::with_tls(Tls::new(&self.config(client_verify)).unwrap(), limits).await
    }

    /// A client that trusts this authority.
    async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
        identity: Option<Identity>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Whether a client with this identity gets an answer.
    async fn answered(&self, server: &Server, identity: Option<Identity>) -> bool {
        let Ok(stream) = self.connect(server.rest, &[], identity).await else { return false };
        let mut http = Http::over(stream);
        http.send("GET /healthz/live HTTP/1.1\r\n\r\n").await;
        http.answer(false).await.is_some_and(|answer| answer.status == 200)
    }
}

#[tokio::test]
async fn grpc_speaks_http_2_over_tls() {
    let authority = Authority::new();
    let server = authority.server(false, Limits::default()).await;
    for protocols in [&["h2"][..], &["http/1.1", "h2"], &[]] {
        let stream = authority.connect(server.grpc, protocols, None).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed, (!protocols.is_empty()).then(|| b"h2".to_vec()));
        let mut peer = Peer::over(stream).await;
        // Larger than a record, and than a window.
        let request = predict(spec("float"), &[("x", one(&[0.5; 100_000]))]);
        let body = framed(0, &request.encode_to_vec());
        assert_eq!(peer.send(PREDICT, &[], body).await, Some(0));
    }
}

#[tokio::test]
async fn rest_speaks_http_1_over_tls() {
    let authority = Authority::new();
    let server = authority.server(false, Limits::default()).await;
    for protocols in [&["http/1.1"][..], &["h2", "http/1.1"], &[]] {
        let stream = authority.connect(server.rest, protocols, None).await.unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed, (!protocols.is_empty()).then(|| b"http/1.1".to_vec()));
        let mut http = Http::over(stream);
        let request = format!("{{\"inputs\":[{}7]}}", "7,".repeat(100_000));
        let answer = http.predict("int32", &request).await;
        assert_eq!((answer.status, answer.text().matches('7').count()), (200, 100_001));
    }
}

#[tokio::test]
async fn another_protocol_or_no_tls_is_refused() {
    let authority = Authority::new();
    let server = authority.server(false, hasty()).await;
    assert!(authority.connect(server.grpc, &["http/1.1"], None).await.is_err());
    assert!(authority.connect(server.rest, &["h2"], None).await.is_err());
    let stranger = Authority::new();
    assert!(stranger.connect(server.rest, &[], None).await.is_err(), "it trusts another");
    for start in
        [&b"GET /healthz/live HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 1], &[0; 99]]
    {
        let mut plain = TcpStream::connect(server.rest).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut plain, start).await.unwrap();
        let mut said = Vec::new();
        let _ = plain.read_to_end(&mut said).await;
        // An alert, or nothing.
        assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
    }
    assert!(authority.answered(&server, None).await);
}

#[tokio::test]
async fn clients_show_certificates_where_that_is_asked() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.server(true, Limits::default()).await;
    assert!(authority.answered(&server, Some(authority.issue())).await);
    assert!(!authority.answered(&server, None).await);
    assert!(!authority.answered(&server, Some(stranger.issue())).await);
    let server = authority.server(false, Limits::default()).await;
    assert!(authority.answered(&server, None).await);
    assert!(authority.answered(&server, Some(stranger.issue())).await, "nobody asks for it");
}

#[tokio::test]
async fn those_who_do_not_shake_hands_hold_nobody_up_and_are_gone_in_time() {
    let authority = Authority::new();
    let server = authority.server(false, hasty()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Http::connect(server.rest).await);
        silent.push(Http::connect(server.grpc).await);
    }
    assert!(authority.answered(&server, None).await);
    for mut peer in silent {
        peer.closed().await;
    }
    // Nor do they hold up a stop.
    let patient = authority.server(false, Limits::default()).await;
    let mut waiting = Http::connect(patient.rest).await;
    assert!(authority.answered(&patient, None).await);
    for end in patient.join().await {
        assert!(end.is_ok(), "{end:?}");
    }
    waiting.closed().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut_off_over_tls_too() {
    let limits = Limits { default_deadline: Duration::from_millis(200), ..Limits::default() };
    let authority = Authority::new();
    let server = authority.server(false, limits).await;
    let mut http = Http::over(authority.connect(server.rest, &[], None).await.unwrap());
    let body = format!("{{\"inputs\":[{}0]}}", "0,".repeat(100_000));
    let path = "/v1/models/float:predict";
    let request = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    while http.send(&request).await {}
}

#[test]
fn keys_and_certificates_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let good = authority.config(true);
    assert!(Tls::new(&good).is_ok());
    let key = |server_key: &str| SslConfig { server_key: server_key.into(), ..good.clone() };
    let certificate = |cert: &str| SslConfig { server_cert: cert.into(), ..good.clone() };
    let ca = |custom_ca: &str| SslConfig { custom_ca: custom_ca.into(), ..good.clone() };
    let table = [
        (key("/etc/server.key"), "server_key holds no private key in PEM"),
        (key(&good.server_cert), "server_key holds no private key in PEM"),
        (key(&authority.issue().key), "server_key and server_cert cannot be used"),
        (certificate("/etc/server.crt"), "server_cert holds no certificate in PEM"),
        (certificate(&good.server_key), "server_cert holds no certificate in PEM"),
        (
            certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "server_key and server_cert cannot be used",
        ),
        (ca("x"), "custom_ca holds no certificate in PEM"),
        (
            ca("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "custom_ca cannot be used",
        ),
    ];
    for (config, expected) in table {
        let error = Tls::new(&config).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    // Not asked for, not read.
    assert!(Tls::new(&SslConfig { client_verify: false, ..ca("x") }).is_ok());
}
