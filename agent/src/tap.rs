//! Taps: live documents for whoever looks, beside their way to an output.
//!
//! In: documents of a container that somebody has asked for, from the worker that has just made them. Out: lines of JSON,
//! as many as the one who looks keeps up with; what did not fit is counted, and told in the stream. Nothing is made where
//! nobody looks, and nobody who delivers ever waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::catalog::origin::Origin;

/// Taps that may be open at a time.
pub const MOST: usize = 4;

/// Bytes that wait for the one who looks, at most.
const MOST_BYTES: usize = 1 << 20;

/// All that are open.
#[derive(Debug, Default)]
pub struct Taps {
    open: AtomicUsize,
    taps: Mutex<Vec<Arc<Tap>>>,
}

/// Whose documents are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its container; all of them for `None`.
    pub container: Option<String>,
    /// As this output sends them.
    pub output: String,
}

/// One that is open.
#[derive(Debug)]
pub struct Tap {
    wanted: Wanted,
    lines: UnboundedSender<Vec<u8>>,
    waiting: AtomicUsize,
    missed: AtomicU64,
}

/// The end of a tap where its lines come out. It is closed with the value.
#[derive(Debug)]
pub struct Stream {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
    lines: UnboundedReceiver<Vec<u8>>,
}

/// A document on its way.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// The container that it is of.
    pub container: &'a str,
    /// Index, data stream or log stream, where it is known here.
    pub to: Option<&'a str>,
    /// Its `_id`, where it has one.
    pub id: Option<&'a str>,
    /// As it is sent.
    pub text: &'a [u8],
}

impl Taps {
    /// Whether anybody looks at all: one load.
    pub fn are_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Opens one; `None` if as many are open as may be.
    pub fn open(self: &Arc<Taps>, wanted: Wanted) -> Option<Stream> {
        let (sender, lines) = unbounded_channel();
        let (waiting, missed) = (AtomicUsize::new(0), AtomicU64::new(0));
        let tap = Arc::new(Tap { wanted, lines: sender, waiting, missed });
        let mut taps = self.lock();
        if taps.len() >= MOST {
            return None;
        }
        taps.push(tap.clone());
        self.open.store(taps.len(), Ordering::Relaxed);
        Some(Stream { taps: self.clone(), tap: tap.clone(), lines })
    }

    /// Those that want what an output sends of a container.
    pub fn of(&self, output: &str, origin: &Origin) -> Vec<Arc<Tap>> {
        let (namespace, pod, container) = origin.place();
        let wants = |wanted: &Wanted| {
            (wanted.output.as_str(), wanted.namespace.as_str(), wanted.pod.as_str())
                == (output, namespace, pod)
                && wanted.container.as_ref().is_none_or(|wanted| *wanted == container)
        };
        self.lock().iter().filter(|tap| wants(&tap.wanted)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Tap>>> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// Offers a document, which is taken if there is room for it.
    pub fn offer(&self, document: Document<'_>) {
        if self.waiting.load(Ordering::Relaxed) + document.text.len() > MOST_BYTES {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let line = document.line();
        self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        // Nobody listens when the stream has just been closed.
        let _ = self.lines.send(line);
    }
}

impl Document<'_> {
    fn line(self) -> Vec<u8> {
        let text = String::from_utf8_lossy(self.text);
        let mut line = json!({ "container": self.container });
        for (name, value) in [("to", self.to), ("id", self.id)] {
            if let Some(value) = value {
                line[name] = value.into();
            }
        }
        let mut line = line.to_string();
        line.pop();
        // As it stands, to the byte, where it is JSON.
        match serde_json::from_str::<&RawValue>(&text) {
            Ok(document) => line += &format!(",\"document\":{}}}\n", document.get()),
            Err(_) => line += &format!(",\"text\":{}}}\n", json!(text)),
        }
        line.into_bytes()
    }
}

impl Stream {
    /// The next line; before it, how many documents were missed since the last, if any.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let line = self.lines.recv().await?;
        self.tap.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        match self.tap.missed.swap(0, Ordering::Relaxed) {
            0 => Some(line),
            missed => {
                let mut told = format!("{{\"missed\":{missed}}}\n").into_bytes();
                told.extend(line);
                Some(told)
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut taps = self.taps.lock();
        taps.retain(|tap| !Arc::ptr_eq(tap, &self.tap));
        self.taps.open.store(taps.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::origin::Container;

    fn wanted(container: Option<&str>) -> Wanted {
        let (namespace, pod, output) = ("shop".into(), "web".into(), "search".into());
        Wanted { namespace, pod, container: container.map(str::to_owned), output }
    }

    fn origin(pod: &str) -> Origin {
        let (namespace, uid, name) = ("shop".into(), "u".into(), "app".into());
        Origin::Container(Container { namespace, pod: pod.into(), uid, name })
    }

    fn document(text: &[u8]) -> Document<'_> {
        Document { container: "app", to: Some("logs-shop"), id: Some("K-1-2"), text }
    }

    #[tokio::test]
    async fn a_document_comes_out_to_the_byte_and_what_is_no_json_as_text() {
        let taps = Arc::new(Taps::default());
        assert!(!taps.are_open());
        let mut stream = taps.open(wanted(None)).unwrap();
        assert!(taps.are_open() && taps.of("search", &origin("other")).is_empty());
        assert!(taps.of("archive", &origin("web")).is_empty());
        let tap = &taps.of("search", &origin("web"))[0];
        tap.offer(document(br#"{"a": 1.50}"#));
        tap.offer(Document { to: None, id: None, ..document(b"a \x1b\xff") });
        let line = async |stream: &mut Stream| String::from_utf8(stream.next().await.unwrap()).unwrap();
        assert_eq!(
            line(&mut stream).await,
            "{\"container\":\"app\",\"id\":\"K-1-2\",\"to\":\"logs-shop\",\"document\":{\"a\": 1.50}}\n"
        );
        assert_eq!(line(&mut stream).await, "{\"container\":\"app\",\"text\":\"a \\u001b\u{fffd}\"}\n");
        drop(stream);
        assert!(!taps.are_open());
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_how_much_was_missed() {
        let taps = Arc::new(Taps::default());
        let mut stream = taps.open(wanted(Some("app"))).unwrap();
        let tap = taps.of("search", &origin("web")).remove(0);
        let text = format!("\"{}\"", "x".repeat(100_000));
        (0..30).for_each(|_| tap.offer(document(text.as_bytes())));
        assert!(tap.waiting.load(Ordering::Relaxed) <= MOST_BYTES + 1024);
        let first = stream.next().await.unwrap();
        assert!(first.starts_with(b"{\"missed\":20}\n"), "{}", String::from_utf8_lossy(&first[..40]));
        assert!(stream.next().await.unwrap().starts_with(b"{\"container\""));
    }

    #[test]
    fn there_is_an_end_to_how_many_may_look() {
        let taps = Arc::new(Taps::default());
        let open: Vec<Stream> = std::iter::from_fn(|| taps.open(wanted(None))).take(MOST + 1).collect();
        assert_eq!(open.len(), MOST);
        drop(open);
        assert!(taps.open(wanted(None)).is_some());
    }
}
