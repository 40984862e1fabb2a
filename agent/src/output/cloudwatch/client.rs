//! The SDK's client, made when it is first needed, and what its errors mean.
//!
//! In: the configuration. Out: a client that signs with the same credentials as the Elasticsearch output would, and does
//! not retry by itself; for each error a [`Fault`], which says what is to be done. Never waits.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::retry::RetryConfig;
use aws_sdk_cloudwatchlogs::config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::config::{Config, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_cloudwatchlogs::error::{ProvideErrorMetadata, SdkError};
use tokio::sync::OnceCell;

use crate::config::CloudWatchConfig;
use crate::output::http::aws::Signer;
use crate::output::http::words;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long a call may take: a megabyte over a bad line, and the service under load.
const CALL_WITHIN: Duration = Duration::from_secs(60);

/// The client of one output.
#[derive(Debug)]
pub struct Service {
    config: CloudWatchConfig,
    credentials: Arc<Credentials>,
    client: OnceCell<(Client, String)>,
    /// Calls to which it answered that they fail, each for itself.
    answered: AtomicU64,
}

/// What the SDK asks for credentials: found, kept and renewed by the signer that other outputs use.
#[derive(Debug)]
struct Credentials {
    signer: Signer,
    /// Of the credentials that were given out last.
    generation: AtomicU64,
}

impl ProvideCredentials for Credentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.signer.credentials(SystemTime::now()).await;
            let (credentials, _, generation) = found.map_err(CredentialsError::provider_error)?;
            self.generation.store(generation, Ordering::Relaxed);
            Ok(credentials)
        })
    }
}

/// Why a call failed, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Too many calls: slower.
    Throttled(String),
    /// The group or the stream is not there.
    Missing,
    /// It is there already, or somebody is just making it.
    Exists,
    /// We may not: `action`, and the service's words.
    Denied(String),
    /// It will never take this.
    Refused(String),
    /// Something that passes. With `in_doubt` the call may have been carried out.
    Passing {
        /// What it was.
        what: String,
        /// Whether the service may have done what it was asked.
        in_doubt: bool,
    },
}

impl Service {
    /// Nothing is looked for or sent yet.
    pub fn new(config: &CloudWatchConfig) -> Service {
        let credentials =
            Credentials { signer: Signer::new(&config.auth(), &[]), generation: AtomicU64::new(0) };
        Service {
            config: config.clone(),
            credentials: Arc::new(credentials),
            client: OnceCell::new(),
            answered: AtomicU64::new(0),
        }
    }

    /// The client and its region.
    ///
    /// # Errors
    /// There are no credentials or no region for now, or logs may not go there: in one line, with what to do.
    pub async fn client(&self) -> Result<&(Client, String), String> {
        // On the heap, once: whoever asks has not the room of all that it takes.
        self.client.get_or_try_init(|| Box::pin(self.make())).await
    }

    /// What clients of other AWS services of the same account are made from, and the region: with the same credentials, and
    /// within `allowed_regions`.
    ///
    /// # Errors
    /// As [`Service::client`].
    pub async fn account(&self) -> Result<(SdkConfig, String), String> {
        let region = self.region().await?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_WITHIN)
            .operation_attempt_timeout(CALL_WITHIN)
            .build();
        let account = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(SharedCredentialsProvider::from(
                self.credentials.clone() as Arc<dyn ProvideCredentials>
            ))
            .timeout_config(timeouts)
            .use_fips(self.config.fips);
        Ok((account.build(), region))
    }

    /// The region, where logs may go to it.
    async fn region(&self) -> Result<String, String> {
        let (_, found, _) = self.credentials.signer.credentials(SystemTime::now()).await?;
        let region = self
            .config
            .region
            .clone()
            .or(found)
            .ok_or("no AWS region: set `region`, or AWS_REGION in the agent's environment")?;
        if !self.config.allows(&region) {
            return Err(format!(
                "the region {region} is not one of `allowed_regions` ({}): nothing is sent",
                self.config.allowed_regions.join(", ")
            ));
        }
        Ok(region)
    }

    async fn make(&self) -> Result<(Client, String), String> {
        let region = self.region().await?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_WITHIN)
            .operation_attempt_timeout(CALL_WITHIN)
            .build();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(SharedCredentialsProvider::from(
                self.credentials.clone() as Arc<dyn ProvideCredentials>
            ))
            // They are kept where they are found, and renewed when they are refused.
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .use_fips(self.config.fips)
            .use_dual_stack(self.config.dual_stack);
        if let Some(endpoint) = &self.config.endpoint {
            config = config.endpoint_url(endpoint.as_str().trim_end_matches('/'));
        }
        Ok((Client::from_conf(config.build()), region))
    }

    /// How many calls it has answered with a failure of their own: where that grows, it is there.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// What an error of `action` on a group means. Where credentials were refused, others are looked for.
    pub async fn fault<E>(&self, error: SdkError<E>) -> Fault
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let in_doubt = may_be_done(&error);
        let fault = classify(&error, in_doubt);
        // That the caller is not known, or not welcome, it would say to any call.
        let of_all = matches!(fault, Fault::Passing { in_doubt: false, .. });
        if matches!(error, SdkError::ServiceError(_)) && !of_all {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(&fault, Fault::Passing { in_doubt: false, what } if is_identity(what)) {
            let renewing = self.credentials.signer.renew(self.credentials.generation.load(Ordering::Relaxed));
            // As in `client`.
            Box::pin(renewing).await;
        }
        fault
    }
}

/// What codes begin with that say that the caller is not who it says, or no longer: others may be there soon. Some end in
/// "Exception" or not, by who answers.
const IDENTITY: [&str; 6] = [
    "UnrecognizedClientException",
    "ExpiredToken",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "InvalidClientTokenId",
];

/// Whether what a [`Fault::Passing`] says is of them.
pub fn is_identity(what: &str) -> bool {
    IDENTITY.iter().any(|code| what.starts_with(code))
}

/// The action and the resource that IAM's words name: "… is not authorized to perform: logs:PutLogEvents on resource:
/// arn:aws:logs:… because …".
pub fn denial(said: &str) -> (Option<String>, Option<String>) {
    let after = |word: &str| Some(said.split_once(word)?.1.split_whitespace().next()?.to_owned());
    (after("perform: "), after("resource: ").filter(|found| found.starts_with("arn:")))
}

fn classify<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>, in_doubt: bool) -> Fault {
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let SdkError::ServiceError(service) = error else {
        let cause = words::line(&words::innermost(error));
        let what = match error {
            SdkError::TimeoutError(_) => format!("no answer within {} s", CALL_WITHIN.as_secs()),
            SdkError::ResponseError(_) => {
                format!("not an answer of CloudWatch Logs (status {status}): {cause}")
            }
            _ => cause,
        };
        return match status {
            429 => Fault::Throttled(what),
            413 => Fault::Refused(what),
            _ => Fault::Passing { what, in_doubt },
        };
    };
    let code = service.err().code().unwrap_or("no code");
    let what = format!("{code}: {}", words::line(service.err().message().unwrap_or("without a word")));
    meaning(code, status, what, in_doubt)
}

/// What the service's code and status mean, by its API reference: PutLogEvents, and "Common Errors".
fn meaning(code: &str, status: u16, what: String, in_doubt: bool) -> Fault {
    match code {
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded" => {
            Fault::Throttled(what)
        }
        "ResourceNotFoundException" => Fault::Missing,
        "ResourceAlreadyExistsException" | "OperationAbortedException" => Fault::Exists,
        "AccessDeniedException"
        | "AccessDenied"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "KMSAccessDeniedException" => Fault::Denied(what),
        _ if is_identity(code) => Fault::Passing { what, in_doubt: false },
        // Of the account and of this machine's clock, whatever is sent.
        "OptInRequired" | "RequestExpired" => Fault::Passing { what, in_doubt: false },
        // Broken off on the way, by whichever side: who knows when.
        "RequestAbortedException" | "RequestAborted" => Fault::Passing { what, in_doubt: true },
        _ if status == 408 => Fault::Passing { what, in_doubt: true },
        _ if status == 429 => Fault::Throttled(what),
        // Of who sends, not of what is sent.
        _ if status == 401 || status == 403 => Fault::Denied(what),
        _ if (400..500).contains(&status) => Fault::Refused(what),
        _ => Fault::Passing { what, in_doubt },
    }
}

/// Whether the service may have carried out a call that failed so: not if it said no, nor if nobody was reached.
fn may_be_done<E: Error + 'static>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::DispatchFailure(failure) => {
            let mut cause: Option<&dyn Error> = failure.as_connector_error().map(|error| error as &dyn Error);
            while let Some(error) = cause {
                let unreached = error.downcast_ref::<io::Error>().is_some_and(|error| {
                    matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::HostUnreachable
                            | io::ErrorKind::NetworkUnreachable
                            | io::ErrorKind::AddrNotAvailable
                    )
                });
                if unreached {
                    return false;
                }
                cause = error.source();
            }
            true
        }
        SdkError::ServiceError(service) => service.raw().status().as_u16() >= 500,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_caller_or_the_way_is_no_fault_of_the_events() {
        let said = |code, status| meaning(code, status, String::new(), status >= 500);
        let what = String::new;
        let passing = |in_doubt| Fault::Passing { what: what(), in_doubt };
        for (code, status, meant) in [
            ("InvalidParameterException", 400, Fault::Refused(what())),
            ("ValidationException", 400, Fault::Refused(what())),
            ("LimitExceededException", 400, Fault::Refused(what())),
            ("RequestEntityTooLargeException", 413, Fault::Refused(what())),
            ("AccessDeniedException", 400, Fault::Denied(what())),
            ("NotAuthorized", 401, Fault::Denied(what())),
            ("NotAuthorized", 400, Fault::Denied(what())),
            ("no code", 403, Fault::Denied(what())),
            ("OptInRequired", 403, passing(false)),
            ("RequestExpired", 400, passing(false)),
            ("ExpiredTokenException", 403, passing(false)),
            ("IncompleteSignature", 403, passing(false)),
            ("IncompleteSignatureException", 400, passing(false)),
            ("UnrecognizedClientException", 400, passing(false)),
            ("RequestAbortedException", 400, passing(true)),
            ("RequestTimeoutException", 408, passing(true)),
            ("ThrottlingException", 400, Fault::Throttled(what())),
            ("no code", 429, Fault::Throttled(what())),
            ("ServiceUnavailableException", 503, passing(true)),
            ("ResourceNotFoundException", 400, Fault::Missing),
        ] {
            assert_eq!(said(code, status), meant, "{code} {status}");
        }
    }
}
