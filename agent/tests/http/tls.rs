//! TLS with certificates made here: authorities, client certificates, names, renewal.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::kit::{Request, Server, bulk, client, listener, ok, reply};

/// An authority, and a folder for what it signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Authority { issuer, folder }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// What a server with a certificate for `name` needs; it wants clients of `clients`, if any.
    pub fn server(&self, name: &str, clients: Option<&Authority>) -> ServerConfig {
        self.server_of(name, clients, &[&TLS13, &TLS12])
    }

    fn server_of(
        &self,
        name: &str,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let (certificate, key) = self.sign(name);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        builder.with_single_cert(chain, key).expect("a certificate and its key")
    }

    /// Writes a client's certificate and key to `folder`, for it to show.
    fn client_into(&self, folder: &TempDir) -> String {
        let (certificate, key) = self.sign("agent");
        let (cert_file, key_file) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&cert_file, certificate.pem()).expect("a file");
        std::fs::write(&key_file, key.serialize_pem()).expect("a file");
        format!(
            "client_cert_file = \"{}\", client_key_file = \"{}\"",
            cert_file.display(),
            key_file.display()
        )
    }

    pub fn ca(&self) -> String {
        format!("ca_file = \"{}\"", self.file("ca.pem").display())
    }
}

async fn error(endpoint: &str, tls: &str) -> String {
    let error = bulk(&client(endpoint, &format!("tls = {{ {tls} }}"))).await.expect_err("no connection");
    assert!(!error.in_doubt, "nothing was taken: {error:?}");
    error.what
}

#[tokio::test]
async fn a_server_of_the_given_authority_is_trusted_and_no_other() {
    let authority = Authority::new();
    let server = Server::tls(authority.server("localhost", None)).await;
    let endpoint = format!("https://localhost:{}", server.port());
    let client = client(&endpoint, &format!("tls = {{ {} }}", authority.ca()));
    ok(bulk(&client).await);
    assert_eq!(server.request().sni.as_deref(), Some("localhost"));

    let unknown = "is not signed by an authority that is trusted: give its authority as `tls.ca_file`";
    let other = Authority::new();
    let said = error(&endpoint, &other.ca()).await;
    assert!(said.starts_with(&format!("{endpoint}: the server's certificate {unknown}")), "{said}");
    let said = error(&endpoint, "min_version = \"1.2\"").await;
    assert!(said.contains(unknown), "the system's authorities: {said}");
    let said = error(&format!("https://127.0.0.1:{}", server.port()), &authority.ca()).await;
    assert!(said.contains("is for another name") && said.contains("tls.server_name"), "{said}");
    assert_eq!(server.requests().len(), 1, "nothing was sent to a server that is not trusted");

    let anyone = "insecure_skip_verify = true";
    ok(bulk(&crate::kit::client(&endpoint, &format!("tls = {{ {anyone} }}"))).await);
}

#[tokio::test]
async fn a_server_name_is_asked_for_and_checked_while_the_host_stays() {
    let authority = Authority::new();
    let server = Server::tls(authority.server("search.internal", None)).await;
    let endpoint = format!("https://127.0.0.1:{}", server.port());
    let tls = format!("tls = {{ {}, server_name = \"search.internal\" }}", authority.ca());
    ok(bulk(&client(&endpoint, &tls)).await);
    let request = server.request();
    assert_eq!(request.sni.as_deref(), Some("search.internal"));
    assert_eq!(request.header("host"), server.address.to_string());
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_a_missing_one_is_told() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::tls(authority.server("localhost", Some(&authority))).await;
    let endpoint = format!("https://localhost:{}", server.port());
    let said = error(&endpoint, &authority.ca()).await;
    assert!(said.contains("the server wants a client certificate: set `tls.client_cert_file`"), "{said}");

    let tls = format!("tls = {{ {}, {} }}", authority.ca(), authority.client_into(&folder));
    ok(bulk(&client(&endpoint, &tls)).await);
    assert!(server.request().client_cert);
}

#[tokio::test]
async fn renewed_certificates_are_read_when_the_old_ones_fail() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::copy(old.file("ca.pem"), &ca).expect("a file");
    let answer =
        |_: &Request| reply("200 OK", "content-type: application/json\r\nconnection: close\r\n", "{}");
    let config = Arc::new(old.server("localhost", Some(&old)));
    let server = Server::start(listener().await, Some(config), Box::new(answer));
    let tls = format!("tls = {{ ca_file = \"{}\", {} }}", ca.display(), old.client_into(&folder));
    let client = client(&format!("https://localhost:{}", server.port()), &tls);
    ok(bulk(&client).await);

    // The server has a certificate of another authority, and wants one of it.
    server.set_tls(new.server("localhost", Some(&new)));
    let error = bulk(&client).await.expect_err("the files are still the old ones");
    assert!(error.what.contains("is not signed by an authority") && !error.in_doubt, "{error:?}");
    // Half renewed, the server is trusted, and does not accept the certificate that it is shown.
    std::fs::copy(new.file("ca.pem"), &ca).expect("a file");
    let error = bulk(&client).await.expect_err("the certificate is still the old one");
    assert!(error.what.contains("does not accept the client certificate") && !error.in_doubt, "{error:?}");
    new.client_into(&folder);
    ok(bulk(&client).await);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_least_version_is_kept() {
    let authority = Authority::new();
    let server = Server::tls(authority.server_of("localhost", None, &[&TLS12])).await;
    let endpoint = format!("https://localhost:{}", server.port());
    ok(bulk(&client(&endpoint, &format!("tls = {{ {} }}", authority.ca()))).await);
    let said = error(&endpoint, &format!("{}, min_version = \"1.3\"", authority.ca())).await;
    assert!(said.contains("no version or cipher of TLS in common"), "{said}");
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let keys = authority.client_into(&folder);
    std::fs::write(folder.path().join("tls.key"), KeyPair::generate().expect("a key").serialize_pem())
        .expect("a file");
    let empty = other.file("empty.pem");
    std::fs::write(&empty, "no certificate").expect("a file");
    for (tls, said) in [
        (keys.clone(), "is not the key of the certificate in"),
        (format!("ca_file = \"{}\"", empty.display()), "has no certificate in PEM"),
        ("ca_file = \"/none\"".to_owned(), "/none cannot be read"),
    ] {
        let what = error("https://localhost:1", &tls).await;
        assert!(what.contains(said) && !what.contains("PRIVATE"), "{what}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_as_such() {
    let authority = Authority::new();
    for greeting in ["", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let listener = listener().await;
        let port = listener.local_addr().expect("a bound socket").port();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("the agent");
            // All of the greeting is read, so that the connection ends and is not reset.
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(greeting.as_bytes()).await;
        });
        let said = error(&format!("https://localhost:{port}"), &authority.ca()).await;
        assert!(said.contains("TLS") && said.contains("does it want http:// in `endpoints`?"), "{said}");
        server.await.expect("no panic");
    }
}
