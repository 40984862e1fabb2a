//! A real server that speaks CloudWatch Logs, Kinesis, S3 and SQS: moto, from PyPI.
//!
//! What comes in: nothing. What goes out: a server on loopback that all tests of a binary share, and what it holds. It
//! enforces little of what AWS documents: that is for [`crate::cloudwatch`], which stands before it. It ends with us.

use crate::http::{self, Reply, Request};
use crate::{eventually, seconds};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;

/// The server of this process.
pub struct Moto {
    address: SocketAddr,
    _child: Child,
}

/// One event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Milliseconds since 1970.
    pub time: i64,
    /// Its text.
    pub message: String,
}

impl Moto {
    /// The one that all tests share, started by whoever asks first.
    ///
    /// # Panics
    /// When it cannot be had or does not start.
    pub fn shared() -> &'static Moto {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (send, started) = mpsc::channel();
            // The server ends with the thread that starts it, and a test's thread ends with its test.
            thread::spawn(move || {
                let _ = send.send(Moto::start());
                loop {
                    thread::park();
                }
            });
            started.recv().expect("moto, which could not be started for the reason above")
        })
    }

    fn start() -> Moto {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/moto");
        let built = Command::new(&script).stderr(Stdio::inherit()).output();
        let built = built.unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
        assert!(built.status.success(), "moto could not be had; what is missing is said above");
        let program = String::from_utf8_lossy(&built.stdout).trim_end().to_owned();
        // Let go: the system gives a port to the next who asks for any only after many others.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = port.expect("a free port");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args([&program, "-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let moto = Moto { address, _child: child };
        eventually(seconds(120), "moto to start", || {
            let reply = http::send(address, "GET", "/moto-api/", b"").map_err(|error| error.to_string())?;
            if reply.status == 200 { Ok(()) } else { Err(format!("status {}", reply.status)) }
        });
        moto
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a call and gives its status and answer.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub fn call(&self, action: &str, body: &Value) -> (u16, Value) {
        self.call_of("logs", &format!("Logs_20140328.{action}"), body)
    }

    /// Makes a call of another service that speaks JSON, by its name in signatures; `target` is the whole of
    /// `x-amz-target`.
    ///
    /// # Panics
    /// As [`Moto::call`].
    pub fn call_of(&self, service: &str, target: &str, body: &Value) -> (u16, Value) {
        let kind = if service == "sqs" { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" };
        let headers = [("content-type", kind), ("x-amz-target", target)];
        let reply = self.send(service, ("POST", "/"), &headers, body.to_string().as_bytes());
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    fn send(
        &self,
        service: &str,
        (method, target): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        // It goes by the scope, and looks at nothing else of a signature.
        let signed = format!(
            "AWS4-HMAC-SHA256 Credential=TEST/20261124/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        );
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let headers = headers.iter().map(owned).chain([("authorization".to_owned(), signed)]).collect();
        let request = Request { method: method.into(), target: target.into(), headers, body: body.to_vec() };
        http::forward(self.address, &request).expect("moto answers")
    }

    /// Makes a Kinesis stream and gives its ARN.
    ///
    /// # Panics
    /// When moto does not.
    pub fn make_stream(&self, name: &str, shards: u32) -> String {
        let body = json!({ "StreamName": name, "ShardCount": shards });
        let (status, answer) = self.call_of("kinesis", "Kinesis_20131202.CreateStream", &body);
        assert_eq!(status, 200, "{answer}");
        format!("arn:aws:kinesis:us-east-1:123456789012:stream/{name}")
    }

    /// Makes a Firehose stream that puts what comes into a bucket, under a prefix, and gives its ARN.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn make_firehose(&self, name: &str, bucket: &str, prefix: &str) -> String {
        let to = json!({ "BucketARN": format!("arn:aws:s3:::{bucket}"), "Prefix": prefix,
            "RoleARN": "arn:aws:iam::123456789012:role/to-s3" });
        let body = json!({ "DeliveryStreamName": name, "DeliveryStreamType": "DirectPut",
            "ExtendedS3DestinationConfiguration": to });
        let (status, answer) = self.call_of("firehose", "Firehose_20150804.CreateDeliveryStream", &body);
        assert_eq!(status, 200, "{answer}");
        answer["DeliveryStreamARN"].as_str().expect("its ARN").to_owned()
    }

    /// Puts a record on a Kinesis stream; `data` is in base64.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn put_record(&self, stream: &str, data: &str) {
        let body = json!({ "StreamName": stream, "PartitionKey": format!("{:08x}", fastrand::u32(..)), "Data": data });
        let (status, answer) = self.call_of("kinesis", "Kinesis_20131202.PutRecord", &body);
        assert_eq!(status, 200, "{answer}");
    }

    /// Puts a record on one of a stream's shards, of so many that share the keys evenly; `data` is in base64.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn put_record_into(&self, stream: &str, (shard, shards): (u32, u32), data: &str) {
        let key = u128::MAX / u128::from(shards) * u128::from(shard) + 1_000;
        let body = json!({ "StreamName": stream, "PartitionKey": "control", "ExplicitHashKey": key.to_string(),
            "Data": data });
        let (status, answer) = self.call_of("kinesis", "Kinesis_20131202.PutRecord", &body);
        assert_eq!(status, 200, "{answer}");
    }

    /// Makes a log group whose events go to a Kinesis stream.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn subscribe(&self, group: &str, stream_arn: &str) {
        let (status, answer) = self.call("CreateLogGroup", &json!({ "logGroupName": group }));
        assert_eq!(status, 200, "{answer}");
        let filter = json!({ "logGroupName": group, "filterName": "all", "filterPattern": "", "destinationArn": stream_arn,
            "roleArn": "arn:aws:iam::123456789012:role/to-kinesis", "distribution": "Random" });
        let (status, answer) = self.call("PutSubscriptionFilter", &filter);
        assert_eq!(status, 200, "{answer}");
    }

    /// Makes a bucket.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn make_bucket(&self, bucket: &str) {
        let reply = self.send("s3", ("PUT", &format!("/{bucket}")), &[], b"");
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    }

    /// Puts an object into a bucket.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn put_object(&self, bucket: &str, key: &str, body: &[u8]) {
        let reply = self.send("s3", ("PUT", &format!("/{bucket}/{key}")), &[], body);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    }

    /// The objects of a bucket, by key.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn objects(&self, bucket: &str) -> Vec<(String, Vec<u8>)> {
        let listed = self.send("s3", ("GET", &format!("/{bucket}?list-type=2")), &[], b"");
        let listed = String::from_utf8_lossy(&listed.body).into_owned();
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| {
            let object = self.send("s3", ("GET", &format!("/{bucket}/{key}")), &[], b"");
            (key.to_owned(), object.body)
        })
        .collect()
    }

    /// Makes a queue and gives its URL.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn make_queue(&self, name: &str) -> String {
        let (status, answer) = self.call_of("sqs", "AmazonSQS.CreateQueue", &json!({ "QueueName": name }));
        assert_eq!(status, 200, "{answer}");
        answer["QueueUrl"].as_str().expect("the queue's URL").to_owned()
    }

    /// The bodies of some messages of a queue.
    ///
    /// # Panics
    /// As [`Moto::make_stream`].
    pub fn messages(&self, url: &str) -> Vec<String> {
        let body = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 });
        let (status, answer) = self.call_of("sqs", "AmazonSQS.ReceiveMessage", &body);
        assert_eq!(status, 200, "{answer}");
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["Body"].as_str().expect("a body").to_owned()).collect()
    }

    /// What a stream holds, in its order; nothing if it is not there.
    ///
    /// # Panics
    /// When the answer has another form than AWS documents.
    pub fn events(&self, group: &str, stream: &str) -> Vec<Stored> {
        let (mut events, mut token) = (Vec::new(), Value::Null);
        loop {
            let mut body = json!({ "logGroupName": group, "logStreamName": stream, "startFromHead": true });
            if !token.is_null() {
                body["nextToken"] = token;
            }
            let (status, page) = self.call("GetLogEvents", &body);
            if status != 200 {
                return events;
            }
            let list = page["events"].as_array().expect("a list of events");
            events.extend(list.iter().map(|event| Stored {
                time: event["timestamp"].as_i64().expect("a time"),
                message: event["message"].as_str().expect("a text").to_owned(),
            }));
            if list.is_empty() {
                return events;
            }
            token = page["nextForwardToken"].clone();
        }
    }
}
