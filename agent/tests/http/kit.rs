//! Small servers that keep what they were sent, and clients made from a configuration as a user writes it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use taffrail::config::{Config, ElasticsearchConfig, OutputConfig};
use taffrail::output::http::{HttpClient, Reply, SendError};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// The body of every bulk request here.
pub const BODY: &[u8] = b"{\"create\":{}}\n{\"message\":\"hello\"}\n";

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The name that TLS asked for.
    pub sni: Option<String>,
    /// Whether TLS brought a client certificate.
    pub client_cert: bool,
}

impl Request {
    /// A header's value, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

type Answer = Box<dyn Fn(&Request) -> Vec<u8> + Send + Sync>;

/// A server on a free port of loopback, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Plain HTTP.
    pub async fn plain(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Server {
        Server::start(listener().await, None, Box::new(answer))
    }

    /// HTTPS, every request answered as done.
    pub async fn tls(config: ServerConfig) -> Server {
        Server::start(listener().await, Some(Arc::new(config)), Box::new(|_| done()))
    }

    /// On a socket that listens already.
    pub fn start(listener: TcpListener, tls: Option<Arc<ServerConfig>>, answer: Answer) -> Server {
        let address = listener.local_addr().expect("a bound socket");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let tls = Arc::new(Mutex::new(tls));
        let answer: Arc<Answer> = Arc::new(answer);
        let (seen, config) = (requests.clone(), tls.clone());
        let task = tokio::spawn(async move {
            // The connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                let config = config.lock().expect("no panic").clone();
                connections.spawn(async move {
                    let Some(config) = config else {
                        return serve(socket, Request::default(), &seen, &**answer).await;
                    };
                    if let Ok(stream) = TlsAcceptor::from(config).accept(socket).await {
                        let session = stream.get_ref().1;
                        let begun = Request {
                            sni: session.server_name().map(str::to_owned),
                            client_cert: session.peer_certificates().is_some(),
                            ..Request::default()
                        };
                        serve(stream, begun, &seen, &**answer).await;
                    }
                });
            }
        });
        Server { address, requests, tls, task }
    }

    /// What new connections get from now on.
    pub fn set_tls(&self, config: ServerConfig) {
        *self.tls.lock().expect("no panic") = Some(Arc::new(config));
    }

    /// All that arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no panic").clone()
    }

    /// The one request that arrived.
    #[track_caller]
    pub fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().expect("one")
    }

    pub fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket on a free port.
pub async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// A port where nobody listens.
pub async fn dead_port() -> u16 {
    listener().await.local_addr().expect("a bound socket").port()
}

/// Reads one request.
pub async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
    begun: &Request,
) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request { method: words.next()?, target: words.next()?, ..begun.clone() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((key, value)) = line.split_once(':') else { break };
        request.headers.push((key.to_ascii_lowercase(), value.trim().to_owned()));
    }
    request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    begun: Request,
    seen: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Vec<u8> + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream, &begun).await {
        let reply = answer(&request);
        seen.lock().expect("no panic").push(request);
        if stream.write_all(&reply).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// Copies bytes both ways until one side ends.
pub async fn tunnel(mut one: impl AsyncRead + AsyncWrite + Unpin, other: SocketAddr) {
    let Ok(mut other) = TcpStream::connect(other).await else { return };
    let (mut from_one, mut to_one) = tokio::io::split(&mut one);
    let (mut from_other, mut to_other) = other.split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_one, &mut to_other) => {}
        _ = tokio::io::copy(&mut from_other, &mut to_one) => {}
    }
}

/// A reply with these headers, each ended by `\r\n`.
pub fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

/// A bulk reply without failures.
pub fn done() -> Vec<u8> {
    reply("200 OK", "content-type: application/json\r\n", "{\"errors\":false}")
}

/// What Elasticsearch says to a wrong password.
pub fn unauthorized() -> Vec<u8> {
    reply(
        "401 Unauthorized",
        "content-type: application/json\r\n",
        "{\"error\":{\"type\":\"security_exception\",\"reason\":\"unable to authenticate\"},\"status\":401}",
    )
}

/// The configuration of an output with these lines.
pub fn config(lines: &str) -> ElasticsearchConfig {
    let text = format!("[outputs.s]\ntype = \"elasticsearch\"\nindex = \"logs\"\n{lines}\n");
    let config = Config::parse(&text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
    match config.outputs.into_values().next() {
        Some(OutputConfig::Elasticsearch(search)) => search,
        other => panic!("not elasticsearch: {other:?}"),
    }
}

/// A client for one endpoint.
pub fn client(endpoint: &str, lines: &str) -> HttpClient {
    HttpClient::new(&config(&format!("endpoints = [\"{endpoint}\"]\n{lines}"))).expect("a client")
}

/// Sends a bulk request.
pub async fn bulk(client: &HttpClient) -> Result<Reply, SendError> {
    client.bulk(Bytes::from_static(BODY), false).await
}

/// Sends a bulk request that must succeed.
#[track_caller]
pub fn ok(sent: Result<Reply, SendError>) {
    match sent {
        Ok(reply) => assert_eq!(reply.status.as_u16(), 200, "{}", reply.told()),
        Err(error) => panic!("{error}"),
    }
}
