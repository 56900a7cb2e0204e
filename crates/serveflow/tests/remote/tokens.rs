//! Who the program is, and whom it believes.

use super::grpc_kit::FakeGrpc;
use super::kit::{Fake, Mood, ask, pool, servers, spec};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serveflow_serve::config::TypedRemote;
use serveflow_serve::remote::ServerPool;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory of its own; it is removed when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("serveflow-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_token_is_sent_and_a_new_one_after_its_file_changed() {
    let folder = Folder::new("tokens");
    let path = folder.write("token", "first\n");
    let (http, grpc) = (Fake::new(Mood::Well), FakeGrpc::new(0));
    let more = format!("token_file = {path:?}");
    let pools = [http.url(), grpc.url()].map(|url| pool(&[url], &more));
    pools.iter().for_each(|pool| ask(pool).unwrap());
    folder.write("token", "the-second");
    pools.iter().for_each(|pool| ask(pool).unwrap());
    let seen = http.state.seen.lock().unwrap().tokens.clone();
    assert!(seen.iter().all(Option::is_some), "looks carry it, too");
    let bearers = ["Bearer first", "Bearer the-second"].map(|token| Some(token.to_owned()));
    assert!(bearers.iter().all(|bearer| seen.contains(bearer)), "{seen:?}");
    let seen: Vec<_> = grpc.asked.lock().unwrap().iter().map(|asked| asked.1.clone()).collect();
    assert_eq!(seen, bearers);
}

#[test]
fn a_token_that_is_not_there_is_an_error_at_the_start() {
    let urls = ["http://127.0.0.1:9".to_owned()];
    let missing = servers(&urls, "token_file = \"/nowhere/token\"");
    assert!(ServerPool::open(&spec(""), &missing).unwrap_err().contains("/nowhere/token"));
    let missing = servers(&urls, "token_env = \"SERVEFLOW_NO_SUCH_TOKEN\"");
    assert!(ServerPool::open(&spec(""), &missing).unwrap_err().contains("SERVEFLOW_NO_SUCH_TOKEN"));
}

#[test]
fn no_token_goes_in_the_clear_to_another_machine() {
    for url in ["http://192.0.2.1:80", "grpc://192.0.2.1:80"] {
        let text = format!("endpoints = [\"{url}\"]\ntoken_env = \"T\"");
        let typed: TypedRemote = toml::from_str(&text).unwrap();
        let error = typed.check().unwrap_err().to_string();
        assert!(error.contains("expected TLS") && error.contains(url), "{error}");
    }
}

/// The certificate of a CA, and the server side of TLS with a certificate that it signed, for
/// HTTP/1 or HTTP/2.
fn authority(protocol: &[u8]) -> (String, Arc<rustls::ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![own.der().clone()], key).unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    (issuer.pem(), Arc::new(config))
}

#[test]
fn a_server_is_believed_if_the_named_authority_signed_for_it() {
    let folder = Folder::new("authorities");
    let (pem, tls) = authority(b"http/1.1");
    let fake = Fake::with_tls(Mood::Well, tls);
    let ca = folder.write("ca.pem", &pem);
    let token = folder.write("token", "secret");
    let more = format!("ca_file = {ca:?}\ntoken_file = {token:?}");
    ask(&pool(&[fake.url()], &more)).unwrap();
    assert!(fake.state.seen.lock().unwrap().tokens.iter().all(Option::is_some));
    let asked = fake.asked();

    let other = folder.write("other.pem", &authority(b"h2").0);
    for more in [format!("ca_file = {other:?}\ntimeout_ms = 200"), "timeout_ms = 200".to_owned()] {
        let stranger = pool(&[fake.url()], &more);
        ask(&stranger).unwrap_err();
        let trouble = stranger.status()[0].trouble.clone();
        assert!(trouble.contains("certificate"), "{trouble}");
    }
    assert_eq!(fake.asked(), asked, "whom it does not believe it does not ask");
    for text in ["", "no certificate"] {
        let none = folder.write("none.pem", text);
        let servers = servers(&[fake.url()], &format!("ca_file = {none:?}"));
        let error = ServerPool::open(&spec(""), &servers).unwrap_err();
        assert!(error.contains("none.pem") && error.contains("found none"), "{error}");
    }
}

#[test]
fn a_grpc_server_is_believed_alike() {
    let folder = Folder::new("grpc-authorities");
    let (pem, tls) = authority(b"h2");
    let fake = FakeGrpc::with_tls(tls);
    let ca = folder.write("ca.pem", &pem);
    let token = folder.write("token", "secret");
    ask(&pool(&[fake.url()], &format!("ca_file = {ca:?}\ntoken_file = {token:?}"))).unwrap();
    let asked = fake.asked.lock().unwrap().clone();
    assert_eq!((asked.len(), asked[0].1.as_deref()), (1, Some("Bearer secret")));
    let other = folder.write("other.pem", &authority(b"h2").0);
    let stranger = pool(&[fake.url()], &format!("ca_file = {other:?}\ntimeout_ms = 200"));
    ask(&stranger).unwrap_err();
    let trouble = stranger.status()[0].trouble.clone();
    assert!(trouble.contains("certificate"), "{trouble}");
    assert_eq!(fake.asked.lock().unwrap().len(), 1);
}
