//! The live tail: what one container's documents look like as they are sent.
//!
//! In: `namespace`, `pod`, and if wanted `container` and `output`, of the request's query. Out: lines of JSON as they come, or
//! the same as events for a browser. An empty line now and then finds out whether anybody still listens. Never slows a
//! delivery: see [`crate::tap`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, Uri};
use futures_util::stream;
use serde_json::json;

use super::Shown;
use crate::tap::{MOST, Stream, Wanted};

/// How long nothing is said at most.
const SILENCE: Duration = Duration::from_secs(15);

/// Opens a tail. `events`: for a browser's `EventSource`.
///
/// # Errors
/// What is wrong with the request.
pub fn open(shown: &Shown, uri: &Uri, events: bool) -> Result<Body, (StatusCode, String)> {
    let mut query = query(uri.query().unwrap_or_default());
    let mut take = |name: &str| query.remove(name).filter(|value| !value.is_empty());
    let (Some(namespace), Some(pod)) = (take("namespace"), take("pod")) else {
        return Err((StatusCode::BAD_REQUEST, "say `namespace` and `pod`".to_owned()));
    };
    let names: Vec<&str> = shown.view.outputs.iter().map(|(name, _)| name.as_str()).collect();
    let output = take("output").or_else(|| names.first().map(|&name| name.to_owned())).unwrap_or_default();
    if !names.contains(&output.as_str()) {
        let said = format!("there is no output `{output}`; there are: {}", names.join(", "));
        return Err((StatusCode::NOT_FOUND, said));
    }
    let container = take("container");
    let begin =
        json!({ "tap": { "output": output, "namespace": namespace, "pod": pod, "container": container } });
    let wanted = Wanted { namespace, pod, container, output };
    let Some(tap) = shown.view.taps.open(wanted) else {
        let said = format!("{MOST} tails are open already; close one");
        return Err((StatusCode::TOO_MANY_REQUESTS, said));
    };
    let begin = framed(format!("{begin}\n").into_bytes(), events);
    let lines = stream::unfold((Some(begin), tap), move |(begin, mut tap)| async move {
        let piece = match begin {
            Some(begin) => begin,
            None => next(&mut tap, events).await?,
        };
        Some((Ok::<_, Infallible>(Bytes::from(piece)), (None, tap)))
    });
    Ok(Body::from_stream(lines))
}

async fn next(tap: &mut Stream, events: bool) -> Option<Vec<u8>> {
    match tokio::time::timeout(SILENCE, tap.next()).await {
        Ok(lines) => lines.map(|lines| framed(lines, events)),
        Err(_) => Some(if events { b":\n\n".to_vec() } else { b"\n".to_vec() }),
    }
}

/// Lines as they are, or each as an event: JSON holds no line break that an event could end with.
fn framed(lines: Vec<u8>, events: bool) -> Vec<u8> {
    if !events {
        return lines;
    }
    let mut framed = Vec::with_capacity(lines.len() + 16);
    for line in lines.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty()) {
        framed.extend_from_slice(b"data: ");
        framed.extend_from_slice(line);
        framed.extend_from_slice(b"\n\n");
    }
    framed
}

/// The names and values of a query.
fn query(text: &str) -> BTreeMap<String, String> {
    // Only its own parser knows all of its rules; the rest of the address is of no matter.
    let url = reqwest::Url::parse(&format!("http://localhost/?{text}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::health::tests::shown;

    #[test]
    fn a_request_says_whose_tail_it_wants() {
        let shown = shown();
        let asked = |query: &str| open(&shown, &format!("/api/v1/tap?{query}").parse().unwrap(), false);
        assert_eq!(asked("namespace=shop").unwrap_err().0, StatusCode::BAD_REQUEST);
        let (status, said) = asked("namespace=shop&pod=web&output=other").unwrap_err();
        assert_eq!(
            (status, said.as_str()),
            (StatusCode::NOT_FOUND, "there is no output `other`; there are: search")
        );
        let open: Vec<_> =
            (0..MOST).map(|_| asked("namespace=shop&pod=web%2D0&container=").unwrap()).collect();
        assert_eq!(asked("namespace=shop&pod=web").unwrap_err().0, StatusCode::TOO_MANY_REQUESTS);
        drop(open);
        assert!(asked("namespace=shop&pod=web&output=search").is_ok());
    }

    #[test]
    fn lines_become_events() {
        assert_eq!(
            framed(b"{\"a\":1}\n{\"b\":2}\n".to_vec(), true),
            b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\n"
        );
        assert_eq!(query("a=b%20c&d")["a"], "b c");
    }
}
