//! `wss://` with an own CA and with client certificates, and through a proxy.
#![cfg(feature = "driver")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests with sockets and threads"
)]

mod rig;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rig::server::{Server, proxy, tls_relay};
use rig::{ServerConfig, application};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use sc_client::{Client, ConnectError, ProxyChoice, Tls};

/// A CA, a server with a certificate of it for `localhost`, and a client's certificate and key in files.
struct Rig {
    _server: Server,
    ca: String,
    other_ca: String,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

fn ca() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn rig(asks_for_certificate: bool) -> Rig {
    let server = Server::start(ServerConfig::default(), application);
    let issuer = ca();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["a client".to_owned()]).unwrap().signed_by(&own_key, &issuer).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("client.pem"), own.pem()).unwrap();
    std::fs::write(folder.path().join("client-key.pem"), own_key.serialize_pem()).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = if asks_for_certificate {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let address = tls_relay(Arc::new(config), server.address);
    Rig { _server: server, ca: issuer.pem(), other_ca: ca().pem(), folder, address }
}

impl Rig {
    fn url(&self) -> String {
        format!("wss://localhost:{}/", self.address.port())
    }

    fn why(&self, tls: &Tls) -> String {
        let client = Client::builder(&self.url()).tls(tls).reconnect(None).connect().unwrap();
        client.connected().wait().unwrap_err().to_string()
    }
}

#[test]
fn an_own_ca_is_trusted_and_another_is_not() {
    let rig = rig(false);
    let tls = Tls::builder().ca_pem(rig.ca.as_bytes()).unwrap().build().unwrap();
    let client = Client::builder(&rig.url()).tls(&tls).connect().unwrap();
    let big = "y".repeat(300_000);
    assert_eq!(client.emit::<_, String>("echo", &big).wait().as_deref(), Ok(&*big));
    client.close().wait().unwrap();

    let tls = Tls::builder().ca_pem(rig.other_ca.as_bytes()).unwrap().build().unwrap();
    let why = rig.why(&tls);
    assert!(why.contains("certificate"), "{why}");
    assert!(matches!(Tls::builder().ca_pem(b"nothing"), Err(ConnectError::Tls(_))));
    assert!(matches!(Tls::builder().build(), Err(ConnectError::Tls(_))));
}

#[test]
fn a_server_that_wants_a_certificate_gets_one() {
    let rig = rig(true);
    let file = |name: &str| rig.folder.path().join(name);
    let trusting = || Tls::builder().ca_pem(rig.ca.as_bytes()).unwrap();
    let tls = trusting().client_certificate(file("client.pem"), file("client-key.pem")).unwrap().build().unwrap();
    let client = Client::builder(&rig.url()).tls(&tls).connect().unwrap();
    assert_eq!(client.emit::<_, u8>("echo", 1).wait(), Ok(1));
    let why = rig.why(&trusting().build().unwrap());
    assert!(!why.is_empty());
}

#[test]
fn a_proxy_opens_a_tunnel_for_those_who_may() {
    let rig = rig(false);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let proxy = proxy("Basic YW5uOnB3", asked.clone());
    let tls = Tls::builder().ca_pem(rig.ca.as_bytes()).unwrap().build().unwrap();
    let through = |user: &str| {
        let choice = ProxyChoice::Url(format!("http://{user}{proxy}"));
        Client::builder(&rig.url()).tls(&tls).proxy(choice).reconnect(None).connect().unwrap()
    };
    let client = through("ann:pw@");
    assert_eq!(client.emit::<_, u8>("echo", 2).wait(), Ok(2));
    assert_eq!(*asked.lock().unwrap(), [format!("localhost:{}", rig.address.port())]);
    let why = through("").connected().wait().unwrap_err().to_string();
    assert!(why.contains("407"), "{why}");
}
