//! The HTTP client of the `elasticsearch` output: one request in, one reply or one reason out.
//!
//! In: a body that is ready to be sent. Out: the server's [`Reply`] whatever its status, or a [`SendError`] that says
//! whether the server may have taken the request nevertheless. It picks the endpoint, adds what authenticates the
//! request, and goes to another endpoint, or again with a renewed secret, only where nothing can have been taken.
//! It never waits before it tries again, never follows a redirect, never copies the body, and never shows a secret.

pub mod auth;
pub mod aws;
pub mod balance;
pub mod secret;
pub mod tls;
pub mod words;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};

use self::auth::Authorization;
use self::aws::Unsigned;
use self::balance::{Balance, Lease};
use self::tls::Tls;
use super::reply::FILTER_PATH;
use crate::config::ElasticsearchConfig;

/// A reply longer than this is not one of Elasticsearch.
const REPLY_LIMIT: usize = 32 << 20;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long connections are used before new ones take their place: a name that leads elsewhere is noticed by then.
const CONNECTION_AGE: Duration = Duration::from_secs(60);

/// The content type of a bulk request.
const NDJSON: &str = "application/x-ndjson";

/// The servers of one output.
#[derive(Debug)]
pub struct HttpClient {
    endpoints: Vec<Endpoint>,
    balance: Balance,
    authorization: Authorization,
    tls: Tls,
    timeout: Duration,
    bulk_query: String,
    /// What every request bears besides, of those that are no output's.
    headers: HeaderMap,
}

/// A request, the same for whichever endpoint it goes to.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path below the endpoint's own, beginning with `/`, percent-encoded.
    pub path: &'a str,
    /// The query without its `?`, percent-encoded; may be empty.
    pub query: &'a str,
    /// What the body is.
    pub content_type: &'static str,
    /// The body as it is sent.
    pub body: Bytes,
    /// Whether the body is compressed with gzip.
    pub compressed: bool,
}

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// The endpoint that answered, for people: scheme, host and port.
    pub from: Arc<str>,
    /// Its status: any but a redirect.
    pub status: StatusCode,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Its content type, empty if it has none.
    pub content_type: String,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SendError {
    /// What happened and what to do, in one line.
    pub what: String,
    /// Whether the server may have taken the request nevertheless.
    pub in_doubt: bool,
}

/// A configuration that can never work in this process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(String);

#[derive(Debug)]
struct Endpoint {
    /// As configured, for people.
    place: Arc<str>,
    /// Where connections go: as configured, but for `tls.server_name`.
    url: Url,
    /// The `Host` header: as configured, whatever `tls.server_name` is.
    host: HeaderValue,
    /// For a name that stands for another one: that of `tls.server_name`, and the endpoint's own.
    alias: Option<(String, String)>,
    connections: Mutex<Option<Connections>>,
    /// It has ever answered anything.
    answered: AtomicBool,
}

/// The connections to an endpoint, with what they were made from.
#[derive(Debug, Clone)]
struct Connections {
    client: Client,
    since: Instant,
    tls: u64,
}

/// What became of one try, if there is no reply.
struct Failure {
    what: String,
    in_doubt: bool,
    /// It was TLS: other files may mend it.
    tls: bool,
    /// It is this side that lacks something: no other endpoint would do better.
    here: bool,
}

impl HttpClient {
    /// A client for the configured endpoints. Nothing is sent yet: servers, secrets in files and certificates that are
    /// not there yet are waited for.
    ///
    /// # Errors
    /// What cannot come right while the process runs, such as a secret that the environment lacks.
    pub fn new(config: &ElasticsearchConfig) -> Result<HttpClient, SetupError> {
        let endpoints: Result<Vec<_>, _> = config
            .endpoints
            .iter()
            .map(|url| Endpoint::new(url, config.tls.server_name.as_deref()))
            .collect();
        let endpoints = endpoints.map_err(SetupError)?;
        let authorization = Authorization::new(&config.auth, &config.endpoints).map_err(SetupError)?;
        let bulk_query = match authorization {
            // Servers differ in which of these letters they encode before they check a signature.
            Authorization::Aws(_) => FILTER_PATH.replace(',', "%2C").replace('*', "%2A"),
            _ => FILTER_PATH.to_owned(),
        };
        let mut bulk_query = format!("filter_path={bulk_query}");
        if let Some(pipeline) = &config.pipeline {
            bulk_query.push_str("&pipeline=");
            bulk_query.push_str(&percent_encoded(pipeline));
        }
        Ok(HttpClient {
            balance: Balance::new(endpoints.len(), config.retry_initial, config.retry_max),
            endpoints,
            authorization,
            tls: Tls::new(&config.tls),
            timeout: config.timeout,
            bulk_query,
            headers: HeaderMap::new(),
        })
    }

    /// With headers that every request bears besides.
    pub fn with_headers(self, headers: HeaderMap) -> HttpClient {
        HttpClient { headers, ..self }
    }

    /// Sends a bulk request. The body is shared with the caller, not copied.
    ///
    /// # Errors
    /// As [`send`](Self::send); and a success that is not JSON, which is another server's.
    pub async fn bulk(&self, body: Bytes, compressed: bool) -> Result<Reply, SendError> {
        let query = &self.bulk_query;
        let call =
            Call { method: Method::POST, path: "/_bulk", query, content_type: NDJSON, body, compressed };
        let reply = self.send(&call).await?;
        if reply.status.is_success() && !reply.content_type.is_empty() && !reply.content_type.contains("json")
        {
            let what = format!(
                "{} answered a bulk request with {}: {}; is it Elasticsearch or OpenSearch?",
                reply.from,
                words::line(&reply.content_type),
                words::body(&reply.content_type, &reply.body)
            );
            return Err(SendError { what, in_doubt: true });
        }
        Ok(reply)
    }

    /// Sends a request to the endpoint whose turn it is; to others at once, where that one cannot be reached.
    ///
    /// # Errors
    /// No endpoint answered, the answer broke off, or it was a redirect.
    pub async fn send(&self, call: &Call<'_>) -> Result<Reply, SendError> {
        let mut tried = Vec::new();
        let mut troubles: Vec<String> = Vec::new();
        while let Some(lease) = self.balance.choose(&tried, Instant::now()) {
            let endpoint = &self.endpoints[lease.endpoint];
            tried.push(lease.endpoint);
            let failure = match self.send_to(endpoint, call, lease).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            troubles.push(failure.what);
            if failure.in_doubt || failure.here {
                return Err(SendError { what: troubles.join("; "), in_doubt: failure.in_doubt });
            }
        }
        Err(SendError { what: troubles.join("; "), in_doubt: false })
    }

    /// Sends to one endpoint, twice where a secret or a certificate turns out to be renewed.
    async fn send_to(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        lease: Lease<'_>,
    ) -> Result<Reply, Failure> {
        let mut again = true;
        loop {
            // What is lacking on this side says nothing of the endpoint: the lease is dropped, neither good nor bad.
            let here = |what| Failure { what, in_doubt: false, tls: false, here: true };
            let (client, tls) = endpoint.client(&self.tls, self.timeout).map_err(here)?;
            let url = endpoint.address(call);
            let unsigned = Unsigned {
                method: call.method.as_str(),
                url: &url,
                host: endpoint.host.to_str().unwrap_or_default(),
                content_type: call.content_type,
                body: &call.body,
            };
            let (headers, secret) = self.authorization.headers(&unsigned).await.map_err(here)?;
            let mut request = client
                .request(call.method.clone(), url)
                .header(HOST, endpoint.host.clone())
                .header(CONTENT_TYPE, call.content_type);
            if call.compressed {
                request = request.header(CONTENT_ENCODING, "gzip");
            }
            if !self.headers.is_empty() {
                request = request.headers(self.headers.clone());
            }
            request = request.headers(HeaderMap::from_iter(headers)).body(call.body.clone());
            let outcome = match request.send().await {
                Ok(response) => endpoint.reply(response, self.timeout).await,
                Err(error) => Err(endpoint.failure(&error, self.timeout)),
            };
            match outcome {
                Ok(reply) => {
                    let refused = matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                    if again && refused && self.authorization.renew(secret).await {
                        again = false;
                        continue;
                    }
                    match reply.status {
                        StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT => {
                            lease.fail(Instant::now(), reply.retry_after);
                        }
                        _ => lease.succeed(Instant::now()),
                    }
                    return Ok(reply);
                }
                Err(failure) => {
                    if again && failure.tls && self.tls.current(true).is_ok_and(|(_, now)| now != tls) {
                        again = false;
                        continue;
                    }
                    lease.fail(Instant::now(), None);
                    return Err(failure);
                }
            }
        }
    }
}

impl Reply {
    /// A reply that is no success, in one line: who, what, and the reason that it gives.
    pub fn told(&self) -> String {
        format!("{} answered {}: {}", self.from, self.status, words::body(&self.content_type, &self.body))
    }
}

impl Endpoint {
    fn new(configured: &Url, server_name: Option<&str>) -> Result<Endpoint, String> {
        let mut url = configured.clone();
        let name = configured.host_str().unwrap_or_default();
        let authority = match configured.port() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let mut alias = None;
        if let Some(server_name) = server_name.filter(|_| url.scheme() == "https") {
            // TLS asks for the name that the connection goes to. So it goes to that name, and the name to the address.
            url.set_host(Some(server_name)).map_err(|error| format!("tls.server_name: {error}"))?;
            alias = Some((server_name.to_owned(), name.trim_matches(['[', ']']).to_owned()));
        }
        Ok(Endpoint {
            place: format!("{}://{name}:{}", url.scheme(), url.port_or_known_default().unwrap_or(0)).into(),
            url,
            host: HeaderValue::from_str(&authority)
                .map_err(|_| format!("{authority} is not the name of a server"))?,
            alias,
            connections: Mutex::new(None),
            answered: AtomicBool::new(false),
        })
    }

    fn address(&self, call: &Call<'_>) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{}", self.url.path().trim_end_matches('/'), call.path));
        url.set_query(Some(call.query).filter(|query| !query.is_empty()));
        url
    }

    /// The client whose connections are to be used, with the generation of TLS that it was made from. A new one leaves
    /// the requests under way to the old one.
    fn client(&self, tls: &Tls, timeout: Duration) -> Result<(Client, u64), String> {
        let (config, generation) = tls.current(false)?;
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*connections
            && made.tls == generation
            && made.since.elapsed() < CONNECTION_AGE
        {
            return Ok((made.client.clone(), generation));
        }
        let client = Client::builder()
            .user_agent(concat!("taffrail/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_WITHIN)
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_keepalive(Duration::from_secs(30))
            .dns_resolver(Arc::new(Resolver { alias: self.alias.clone() }))
            // A clone shares the sessions that TLS resumes.
            .tls_backend_preconfigured(config)
            .build()
            .map_err(|error| format!("HTTP cannot be set up: {}", words::innermost(&error)))?;
        *connections = Some(Connections { client: client.clone(), since: Instant::now(), tls: generation });
        Ok((client, generation))
    }

    /// Reads the whole of a reply.
    async fn reply(&self, mut response: Response, timeout: Duration) -> Result<Reply, Failure> {
        self.answered.store(true, Ordering::Relaxed);
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let broken = |what| Failure {
            what: format!("{}: {what}", self.place),
            in_doubt: status.is_success() || status.is_server_error(),
            tls: false,
            here: false,
        };
        if status.is_redirection() {
            let target = header(LOCATION).map_or("a place that it does not name".to_owned(), words::line);
            return Err(broken(format!(
                "answered {status}, a redirect to {target}: redirects are not followed; name the right place in `endpoints`"
            )));
        }
        let retry_after =
            header(RETRY_AFTER).and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        let content_type = header(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| broken(format!("the reply broke off: {}", words::no_reply(&error, timeout))))?
        {
            body.extend_from_slice(&chunk);
            if body.len() > REPLY_LIMIT {
                return Err(broken("the reply has no end".to_owned()));
            }
        }
        Ok(Reply { from: self.place.clone(), status, retry_after, content_type, body })
    }

    /// Whether it has never answered anything.
    fn is_silent(&self) -> bool {
        !self.answered.load(Ordering::Relaxed)
    }

    fn failure(&self, error: &reqwest::Error, timeout: Duration) -> Failure {
        let handshake = words::tls_error(error).is_some_and(tls::is_handshake);
        let mut what = format!("{}: {}", self.place, words::no_reply(error, timeout));
        if error.is_connect() {
            let env = |name: &str| std::env::var(name).ok();
            let proxy = words::proxy(&self.url, env).filter(|_| words::tls_error(error).is_none());
            let told = |proxy: String| format!("; it goes through the proxy {proxy}, not named in NO_PROXY");
            what.extend(proxy.map(told));
        } else if self.is_silent() && self.url.scheme() == "http" && !error.is_timeout() {
            what.push_str("; does it want https:// in `endpoints`?");
        }
        Failure {
            what,
            in_doubt: !error.is_connect() && !handshake,
            tls: words::tls_error(error).is_some(),
            here: false,
        }
    }
}

/// Text as a value within a query: everything but letters, digits and `-._~` encoded, which servers and signatures
/// read alike.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Looks names up anew for every connection, and spreads connections over all addresses of a name.
#[derive(Debug)]
struct Resolver {
    alias: Option<(String, String)>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = match &self.alias {
            Some((alias, host)) if alias == name.as_str() => host.clone(),
            // A proxy's name comes this way too.
            _ => name.as_str().to_owned(),
        };
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(spread(found).into_iter()) as Addrs)
        })
    }
}

/// Addresses in random order, but the family that the system prefers still before the other.
fn spread(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    fastrand::shuffle(&mut addresses);
    addresses.sort_by_key(|address| address.is_ipv6() != first);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_to_every_address_of_the_preferred_family() {
        let addresses: Vec<SocketAddr> = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1"]
            .map(|address| address.parse().expect("an address"))
            .to_vec();
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let spread = spread(addresses.clone());
            assert!(
                spread[..2].iter().all(SocketAddr::is_ipv6) && spread[2..].iter().all(SocketAddr::is_ipv4)
            );
            firsts.insert(spread[0]);
        }
        assert_eq!(firsts.len(), 2);
        assert!(spread(Vec::new()).is_empty());
    }

    #[test]
    fn a_value_cannot_end_its_part_of_a_query() {
        assert_eq!(percent_encoded("add-time_1.~"), "add-time_1.~");
        assert_eq!(percent_encoded("a&b=c d/é+%"), "a%26b%3Dc%20d%2F%C3%A9%2B%25");
    }

    #[test]
    fn an_endpoint_keeps_its_prefix_and_its_host() {
        let url = Url::parse("https://[::1]:9200/es").expect("a URL");
        let endpoint = Endpoint::new(&url, Some("search.internal")).expect("an endpoint");
        let call = Call {
            method: Method::POST,
            path: "/_bulk",
            query: "a=b",
            content_type: NDJSON,
            body: Bytes::new(),
            compressed: false,
        };
        assert_eq!(endpoint.address(&call).as_str(), "https://search.internal:9200/es/_bulk?a=b");
        assert_eq!(
            (endpoint.host.to_str().ok(), &*endpoint.place),
            (Some("[::1]:9200"), "https://[::1]:9200")
        );
        assert_eq!(endpoint.alias, Some(("search.internal".to_owned(), "::1".to_owned())));
    }
}
