//! The headers that say who sends.
//!
//! In: the `auth` of the configuration, and a request. Out: the headers to add to it. Secrets are read again when they
//! change. Never decides what a refusal means: [`Authorization::renew`] only tells whether there is something new to try.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::aws::{Signer, Unsigned};
use super::secret::{Secret, SecretReader, read_secret};
use crate::config::{AuthConfig, SecretSource};

/// How an output authenticates its requests.
#[derive(Debug)]
pub enum Authorization {
    /// Not at all.
    None,
    /// By one header that is the same for every request.
    Header(Header),
    /// By a signature of each request.
    Aws(Signer),
}

/// A header made from a secret.
#[derive(Debug)]
pub struct Header {
    scheme: Scheme,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Scheme {
    Basic(String),
    ApiKey,
    Bearer,
}

#[derive(Debug)]
struct State {
    reader: SecretReader,
    /// The secret that `value` was made from.
    secret: Option<Secret>,
    value: Option<HeaderValue>,
    generation: u64,
}

/// The headers to add, with the generation of the secret that they were made from.
pub type Headers = (Vec<(HeaderName, HeaderValue)>, u64);

impl Authorization {
    /// As configured, for these endpoints.
    ///
    /// # Errors
    /// A secret of the environment is missing: it will not appear while the process runs. A file may, and is waited for.
    pub fn new(auth: &AuthConfig, endpoints: &[Url]) -> Result<Authorization, String> {
        if let Some((_, source @ SecretSource::Env(_))) = auth.secret() {
            read_secret(source)?;
        }
        let header = |scheme, source: &SecretSource| {
            let reader = SecretReader::new(source);
            let state = State { reader, secret: None, value: None, generation: 0 };
            Authorization::Header(Header { scheme, state: Mutex::new(state) })
        };
        Ok(match auth {
            AuthConfig::None => Authorization::None,
            AuthConfig::Aws(aws) => Authorization::Aws(Signer::new(aws, endpoints)),
            AuthConfig::Basic(basic) => header(Scheme::Basic(basic.username.clone()), &basic.password),
            AuthConfig::ApiKey(api_key) => header(Scheme::ApiKey, &api_key.key),
            AuthConfig::Bearer(bearer) => header(Scheme::Bearer, &bearer.token),
        })
    }

    /// The headers for a request.
    ///
    /// # Errors
    /// There is no secret or no credentials, for now: in one line, with what to do.
    pub async fn headers(&self, request: &Unsigned<'_>) -> Result<Headers, String> {
        match self {
            Authorization::None => Ok((Vec::new(), 0)),
            Authorization::Header(header) => {
                let (value, generation) = header.value(false)?;
                Ok((vec![(AUTHORIZATION, value)], generation))
            }
            Authorization::Aws(signer) => signer.sign(request, SystemTime::now()).await,
        }
    }

    /// After the server refused headers of this generation: whether there are others now, so that it is worth asking
    /// again at once.
    pub async fn renew(&self, refused: u64) -> bool {
        match self {
            Authorization::None => false,
            Authorization::Header(header) => {
                header.value(true).is_ok_and(|(_, generation)| generation != refused)
            }
            Authorization::Aws(signer) => signer.renew(refused).await,
        }
    }
}

impl Header {
    fn value(&self, at_once: bool) -> Result<(HeaderValue, u64), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = state.reader.read(at_once)?.clone();
        if let (Some(value), Some(last)) = (&state.value, &state.secret)
            && *last == secret
        {
            return Ok((value.clone(), state.generation));
        }
        let text = match &self.scheme {
            Scheme::Basic(username) => {
                format!("Basic {}", STANDARD.encode(format!("{username}:{}", secret.expose())))
            }
            // The encoded form is the base64 of `ID:KEY`, and has no colon.
            Scheme::ApiKey if secret.expose().contains(':') => {
                format!("ApiKey {}", STANDARD.encode(secret.expose()))
            }
            Scheme::ApiKey => format!("ApiKey {}", secret.expose()),
            Scheme::Bearer => format!("Bearer {}", secret.expose()),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| "the secret of `auth` has letters that a header cannot carry".to_owned())?;
        value.set_sensitive(true);
        state.generation += 1;
        state.value = Some(value.clone());
        state.secret = Some(secret);
        Ok((value, state.generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_each_kind_and_none_of_them_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        let source = SecretSource::File(file.clone());
        for (scheme, secret, expected) in [
            (Scheme::Basic("elastic".into()), "hunter2", "Basic ZWxhc3RpYzpodW50ZXIy"),
            (Scheme::ApiKey, "aWQ6a2V5", "ApiKey aWQ6a2V5"),
            (Scheme::ApiKey, "id:key", "ApiKey aWQ6a2V5"),
            (Scheme::Bearer, "hunter2", "Bearer hunter2"),
        ] {
            std::fs::write(&file, secret).expect("a file");
            let reader = SecretReader::new(&source);
            let state = Mutex::new(State { reader, secret: None, value: None, generation: 0 });
            let header = Header { scheme, state };
            let (value, generation) = header.value(false).expect("a header");
            assert_eq!((value.to_str().ok(), generation), (Some(expected), 1));
            let printed = format!("{header:?} {value:?}");
            assert!(!printed.contains(secret) && !printed.contains(&expected[6..]), "{printed}");
        }
    }
}
