//! Requests signed for AWS: Signature Version 4, with credentials that are found, kept and renewed.
//!
//! In: a request without its signature. Out: the headers that sign it. Credentials that are not there yet, as when a
//! node boots, are an error now and looked for again soon. Never sends the request itself; the calls that fetch
//! credentials (STS, instance metadata) are the AWS crates' own.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::meta::region::RegionProviderChain;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_lc_rs::digest;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::words;
use crate::config::connection::{AwsAuth, AwsService};

/// Credentials are renewed when they are valid for less than this: what is under way must still be within it.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Credentials without an end are asked for again this often: a profile's file may have changed.
const RENEW_EVERY: Duration = Duration::from_secs(900);

/// How long credentials may take to be found: instance metadata is tried several times.
const FIND_WITHIN: Duration = Duration::from_secs(30);

/// After a failure they are not looked for again before this, however many requests want them.
const FIND_AGAIN: Duration = Duration::from_secs(3);

/// Credentials that a server refused are not renewed again before this: they may be valid, and lack a permission.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// What keeps pods from the instance's own role, where it is that.
const HOP_LIMIT: &str = ", or, for the instance's own role, set HttpPutResponseHopLimit of the instance's metadata to 2: \
                         with 1 no pod can reach it";

/// Signs for an output.
#[derive(Debug)]
pub struct Signer {
    config: AwsAuth,
    /// The region in the first endpoint's name, where STS is asked if nothing else says where.
    near: Option<String>,
    have: Mutex<Have>,
    /// Held by whoever looks for credentials: one at a time.
    finding: tokio::sync::Mutex<Option<Chain>>,
}

#[derive(Debug, Default)]
struct Have {
    credentials: Option<Credentials>,
    region: Option<String>,
    /// How often credentials were found.
    generation: u64,
    found: Option<Instant>,
    failed: Option<(Instant, String)>,
}

/// Where credentials come from, worked out once.
#[derive(Debug)]
struct Chain {
    provider: SharedCredentialsProvider,
    region: Option<String>,
}

/// What is to be signed.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// The method's name.
    pub method: &'a str,
    /// The whole address, as it is sent but for the host.
    pub url: &'a Url,
    /// The `Host` header, as it is sent.
    pub host: &'a str,
    /// The `Content-Type` header, as it is sent.
    pub content_type: &'a str,
    /// The body, as it is sent: compressed, if it is.
    pub body: &'a [u8],
}

impl Signer {
    /// A signer of requests to these endpoints. Nothing is looked for yet.
    pub fn new(config: &AwsAuth, endpoints: &[Url]) -> Signer {
        let near = endpoints.iter().find_map(|url| region_of(url.host_str()?));
        Signer {
            config: config.clone(),
            near,
            have: Mutex::default(),
            finding: tokio::sync::Mutex::default(),
        }
    }

    /// The headers that sign a request, with the generation of the credentials that they were made from.
    ///
    /// # Errors
    /// There are no credentials or no region, for now: in one line, with what to do.
    pub async fn sign(
        &self,
        request: &Unsigned<'_>,
        now: SystemTime,
    ) -> Result<(Vec<(HeaderName, HeaderValue)>, u64), String> {
        let (credentials, found_region, generation) = self.credentials(now).await?;
        let host = request.url.host_str().unwrap_or_default();
        let region = self
            .config
            .region
            .clone()
            .or_else(|| region_of(host))
            .or(found_region)
            .ok_or("no AWS region: set `auth.region`, or AWS_REGION in the agent's environment")?;
        let service = self.config.service.unwrap_or_else(|| service_of(host));
        Ok((headers(request, credentials, &region, service, now)?, generation))
    }

    /// After the server refused credentials of this generation: whether there are others now.
    pub async fn renew(&self, refused: u64) -> bool {
        {
            let mut have = self.lock();
            if have.generation != refused {
                return true;
            }
            if have.found.is_some_and(|found| found.elapsed() < REFUSED_AGAIN) {
                return false;
            }
            have.found = None;
        }
        self.credentials(SystemTime::now()).await.is_ok_and(|(_, _, generation)| generation != refused)
    }

    /// Credentials that are valid at `now`, the region that was found with them, and their generation.
    ///
    /// # Errors
    /// There are none for now: in one line, with what to do.
    pub async fn credentials(&self, now: SystemTime) -> Result<(Credentials, Option<String>, u64), String> {
        let held = |have: &Have, must_be_fresh: bool| {
            let credentials = have.credentials.as_ref()?;
            let left = credentials.expiry().map(|expiry| expiry.duration_since(now).unwrap_or_default());
            let fresh = have.found.is_some_and(|found| match left {
                Some(left) => left > RENEW_BEFORE,
                None => found.elapsed() < RENEW_EVERY,
            });
            let valid = left.is_none_or(|left| !left.is_zero());
            (valid && (fresh || !must_be_fresh))
                .then(|| (credentials.clone(), have.region.clone(), have.generation))
        };
        if let Some(held) = held(&self.lock(), true) {
            return Ok(held);
        }
        let mut chain = match self.finding.try_lock() {
            Ok(chain) => chain,
            // Somebody is about it; what is held will do if it is still valid.
            Err(_) => {
                if let Some(held) = held(&self.lock(), false) {
                    return Ok(held);
                }
                self.finding.lock().await
            }
        };
        {
            let have = self.lock();
            if let Some(held) = held(&have, true) {
                return Ok(held);
            }
            if let Some((failed, error)) = &have.failed
                && failed.elapsed() < FIND_AGAIN
            {
                return held(&have, false).ok_or_else(|| error.clone());
            }
        }
        let found = match tokio::time::timeout(FIND_WITHIN, self.find(&mut chain)).await {
            Ok(found) => found,
            Err(_) => Err("no AWS credentials: nothing answered in time".to_owned()),
        };
        let mut have = self.lock();
        match found {
            Ok((credentials, region)) => {
                let changed = have.credentials.as_ref() != Some(&credentials);
                have.generation += u64::from(changed);
                have.credentials = Some(credentials);
                have.region = region;
                have.found = Some(Instant::now());
                have.failed = None;
            }
            Err(error) => {
                // Whatever it was made of may be there the next time: a profile, a mounted token.
                *chain = None;
                have.failed = Some((Instant::now(), error));
            }
        }
        held(&have, false)
            .ok_or_else(|| have.failed.as_ref().map(|failed| failed.1.clone()).unwrap_or_default())
    }

    async fn find(&self, chain: &mut Option<Chain>) -> Result<(Credentials, Option<String>), String> {
        let chain = match chain {
            Some(chain) => chain,
            None => chain.insert(self.chain().await?),
        };
        let credentials = chain.provider.provide_credentials().await.map_err(|error| {
            let cause = error.source().map_or_else(|| error.to_string(), words::innermost);
            let line = words::line(&cause);
            let hops = if line.to_ascii_lowercase().contains("imds") {
                HOP_LIMIT
            } else {
                ""
            };
            format!("no AWS credentials: {line}; give the agent's service account a role (IRSA or Pod Identity){hops}")
        })?;
        Ok((credentials, chain.region.clone()))
    }

    async fn chain(&self) -> Result<Chain, String> {
        let region = RegionProviderChain::first_try(self.config.region.clone().map(Region::new))
            .or_default_provider()
            .or_else(self.near.clone().map(Region::new));
        let found = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
        let region = found.region().map(|region| region.as_ref().to_owned());
        let base = found.credentials_provider().ok_or("no AWS credentials: nothing provides any")?;
        let provider = match &self.config.role_arn {
            None => base,
            Some(role) => {
                let role = AssumeRoleProvider::builder(role).session_name("taffrail").configure(&found);
                let role = match &self.config.external_id {
                    Some(id) => role.external_id(id),
                    None => role,
                };
                SharedCredentialsProvider::new(role.build_from_provider(base).await)
            }
        };
        Ok(Chain { provider, region })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Have> {
        // Every change is whole before anything could panic.
        self.have.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn headers(
    request: &Unsigned<'_>,
    credentials: Credentials,
    region: &str,
    service: AwsService,
    now: SystemTime,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut settings = SigningSettings::default();
    if service == AwsService::Aoss {
        // Serverless collections refuse a request without the header x-amz-content-sha256.
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = credentials.into();
    let failed = |error: &dyn Error| format!("the request cannot be signed: {}", words::innermost(error));
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service.as_str())
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?
        .into();
    let hash = digest::digest(&digest::SHA256, request.body);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signed = [("host", request.host), ("content-type", request.content_type)];
    let request = SignableRequest::new(
        request.method,
        request.url.as_str(),
        signed.into_iter(),
        SignableBody::Precomputed(hash),
    )
    .map_err(|error| failed(&error))?;
    let (instructions, _) = sign(request, &params).map_err(|error| failed(&error))?.into_parts();
    let (headers, _) = instructions.into_parts();
    headers
        .into_iter()
        .map(|header| {
            let mut value = HeaderValue::from_str(header.value()).map_err(|error| failed(&error))?;
            value.set_sensitive(true);
            Ok((HeaderName::from_static(header.name()), value))
        })
        .collect()
}

/// The region in the name of an Amazon domain or collection: `x.ap-northeast-1.es.amazonaws.com`,
/// `x.us-east-1.aoss.amazonaws.com`, `x.aos.eu-west-1.on.aws`.
fn region_of(host: &str) -> Option<String> {
    if ![".amazonaws.com", ".amazonaws.com.cn", ".on.aws"].iter().any(|end| host.ends_with(end)) {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let region = match labels.iter().rposition(|label| matches!(*label, "es" | "aoss" | "aos"))? {
        at if labels[at] == "aos" => labels.get(at + 1),
        at => labels.get(at.checked_sub(1)?),
    };
    // As in `us-gov-west-1`; the legacy global name has none.
    region.filter(|region| region.matches('-').count() >= 2).map(|&region| region.to_owned())
}

fn service_of(host: &str) -> AwsService {
    let serverless =
        host.ends_with(".aoss.amazonaws.com") || (host.contains(".aoss.") && host.ends_with(".on.aws"));
    if serverless { AwsService::Aoss } else { AwsService::Es }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_region_and_service() {
        for (host, region, service) in [
            ("search-x-abc.ap-northeast-1.es.amazonaws.com", Some("ap-northeast-1"), AwsService::Es),
            ("vpc-x.cn-north-1.es.amazonaws.com.cn", Some("cn-north-1"), AwsService::Es),
            ("abc.us-gov-west-1.aoss.amazonaws.com", Some("us-gov-west-1"), AwsService::Aoss),
            ("search-x.aos.eu-west-1.on.aws", Some("eu-west-1"), AwsService::Es),
            ("search.example", None, AwsService::Es),
            ("es.amazonaws.com", None, AwsService::Es),
            ("x.es.example.com", None, AwsService::Es),
        ] {
            assert_eq!((region_of(host).as_deref(), service_of(host)), (region, service), "{host}");
        }
    }

    #[test]
    fn serverless_gets_its_hash_and_nobody_gets_the_key() {
        let url = Url::parse("https://a.example/_bulk?filter_path=errors").expect("a URL");
        let request = Unsigned {
            method: "POST",
            url: &url,
            host: "a.example",
            content_type: "application/x-ndjson",
            body: b"{}\n",
        };
        let credentials = || Credentials::new("AKID", "hunter2", Some("session".to_owned()), None, "test");
        let names = |service| {
            let headers = headers(&request, credentials(), "r-1", service, SystemTime::UNIX_EPOCH)
                .expect("signed headers");
            let printed = format!("{headers:?}");
            assert!(!printed.contains("hunter2") && !printed.contains("session"), "{printed}");
            let mut names: Vec<String> = headers.iter().map(|(name, _)| name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(names(AwsService::Es), ["authorization", "x-amz-date", "x-amz-security-token"]);
        assert_eq!(
            names(AwsService::Aoss),
            ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"]
        );
    }
}
