//! TLS: whom the output trusts, and what it shows of itself.
//!
//! In: the `tls` table and the files that it names. Out: a configuration of rustls, made anew when a file changes.
//! Never connects, and never puts a key into an error.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

use super::secret::{Watch, read_file};
use crate::config::TlsConfig;
use crate::config::connection::TlsVersion;

/// The TLS of an output, up to date.
#[derive(Debug)]
pub struct Tls {
    config: TlsConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watch: Watch,
    built: Option<ClientConfig>,
    /// How often it was built: whoever holds an older one asks for the newer.
    generation: u64,
    /// Why the files that are there now cannot be used.
    trouble: Option<String>,
}

impl Tls {
    /// TLS as configured. Nothing is read yet.
    pub fn new(config: &TlsConfig) -> Tls {
        let files: Vec<PathBuf> = [&config.ca_file, &config.client_cert_file, &config.client_key_file]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let state = State { watch: Watch::new(files), built: None, generation: 0, trouble: None };
        Tls { config: config.clone(), state: Mutex::new(state) }
    }

    /// The configuration and its generation, made anew if a file changed. Files that cannot be used leave the
    /// configuration made before, since a renewal is seen half done at times.
    ///
    /// `at_once`: look at the files even if that was done a moment ago.
    ///
    /// # Errors
    /// There is no configuration, and there was none: in one line, with what to do.
    pub fn current(&self, at_once: bool) -> Result<(ClientConfig, u64), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.watch.changed(Instant::now(), at_once) || state.built.is_none() {
            match build(&self.config) {
                Ok(built) => {
                    state.built = Some(built);
                    state.generation += 1;
                    state.trouble = None;
                }
                Err(error) => {
                    if state.built.is_some() {
                        tracing::warn!(
                            error,
                            "the files for TLS cannot be used; those read before still are"
                        );
                    }
                    state.trouble = Some(error);
                }
            }
        }
        match (&state.built, &state.trouble) {
            (Some(built), _) => Ok((built.clone(), state.generation)),
            (None, trouble) => Err(trouble.clone().unwrap_or_default()),
        }
    }
}

/// Reads the files and makes a configuration.
///
/// # Errors
/// A file is missing, or is not what its key says.
pub fn build(config: &TlsConfig) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match config.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
    } else {
        builder.with_root_certificates(roots(config.ca_file.as_deref())?)
    };
    let (Some(cert_file), Some(key_file)) = (&config.client_cert_file, &config.client_key_file) else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(&read_file(key_file)?).map_err(|_| {
        format!("tls.client_key_file: {} has no private key in PEM that is not encrypted", key_file.display())
    })?;
    builder.with_client_auth_cert(certificates("client_cert_file", cert_file)?, key).map_err(|error| {
        match error {
            rustls::Error::InconsistentKeys(_) => format!(
                "tls.client_key_file: {} is not the key of the certificate in {}",
                key_file.display(),
                cert_file.display()
            ),
            error => format!("tls.client_cert_file: {} cannot be used: {error}", cert_file.display()),
        }
    })
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in certificates("ca_file", file)? {
                roots.add(certificate).map_err(|error| {
                    format!("tls.ca_file: {} has a certificate that cannot be used: {error}", file.display())
                })?;
            }
        }
        // What of the system's cannot be read is missed when a server is not trusted, and is told then.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(file)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("tls.{key}: {} has no certificate in PEM", file.display())),
        Err(error) => Err(format!("tls.{key}: {} is not PEM: {error}", file.display())),
    }
}

/// What rustls says, in words that lead to the key to change.
pub fn explained(error: &rustls::Error) -> String {
    match error {
        // A bad signature is what an authority that was made anew under its old name looks like.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the server's certificate is not signed by an authority that is trusted: give its authority as `tls.ca_file`"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the server's certificate is for another name ({error}): correct `endpoints`, or set `tls.server_name`"),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the server's certificate has expired, or this machine's clock is wrong ({error})")
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) if is_authority(other) => {
            "the server's own certificate is an authority's (`CA:TRUE`, as `openssl req -x509` makes it), which no \
             server's may be, not even given as `tls.ca_file`: make it with `-addext \
             basicConstraints=critical,CA:FALSE`, or have an authority sign one"
                .to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a client certificate: set `tls.client_cert_file` and `tls.client_key_file`".to_owned()
        }
        rustls::Error::AlertReceived(alert) if refuses_certificate(*alert) => {
            format!("the server does not accept the client certificate ({error}): see `tls.client_cert_file`")
        }
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) | rustls::Error::PeerIncompatible(_) => {
            format!("the server and the agent have no version or cipher of TLS in common ({error}): see `tls.min_version`")
        }
        rustls::Error::InvalidMessage(_) => {
            format!("the server does not speak TLS ({error}): does it want http:// in `endpoints`?")
        }
        error => format!("TLS: {error}"),
    }
}

/// Whether a server shows an authority's certificate as its own. Only the text tells: the type is the verifier's.
fn is_authority(error: &OtherError) -> bool {
    format!("{error:?}").contains("CaUsedAsEndEntity")
}

/// Whether the error ended the handshake: then no byte of the request was taken. A server of TLS 1.3 judges the client's
/// certificate after the client has begun to send.
pub fn is_handshake(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::AlertReceived(alert) => {
            refuses_certificate(*alert)
                || matches!(
                    alert,
                    AlertDescription::CertificateRequired
                        | AlertDescription::HandshakeFailure
                        | AlertDescription::ProtocolVersion
                        | AlertDescription::UnrecognisedName
                )
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::PeerIncompatible(_) => true,
        _ => false,
    }
}

fn refuses_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}

/// `insecure_skip_verify`: whoever answers is taken for the server. The handshake's signatures are still checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_its_own_authority_is_told_with_what_to_do() {
        #[derive(Debug, thiserror::Error)]
        #[error("as webpki calls it")]
        struct CaUsedAsEndEntity;
        let other = CertificateError::Other(OtherError(Arc::new(CaUsedAsEndEntity)));
        let said = explained(&rustls::Error::InvalidCertificate(other));
        assert!(said.contains("CA:FALSE") && said.contains("tls.ca_file"), "{said}");
    }
}
