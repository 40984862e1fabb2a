//! False answers: what gateways, overloaded servers and cut connections make of a bulk request's reply.
//!
//! What comes in: nothing, or the true reply. What goes out: the false one. It never speaks of documents.

use crate::http::Reply;
use serde_json::{Value, json};

const PAGE: &str = "<html><head><title>One moment</title></head><body>We are just back.</body></html>";

/// A gateway's page, with a status of its own.
pub fn page(status: u16) -> Reply {
    let headers = vec![("content-type".to_owned(), "text/html; charset=utf-8".to_owned())];
    Reply { status, headers, body: PAGE.into() }
}

/// A page in place of the true answer, with the status that says all is well.
pub fn as_page(_: Reply) -> Reply {
    page(200)
}

/// A redirect to a place where nobody is.
pub fn redirect() -> Reply {
    let headers = vec![("location".to_owned(), "http://127.0.0.1:9/_bulk".to_owned())];
    Reply { status: 302, headers, body: Vec::new() }
}

/// A server that cannot now (429, 503), with or without the seconds after which it wants to be asked again.
pub fn busy(status: u16, retry_after: Option<u32>) -> Reply {
    let mut reply = Reply::json(status, &json!({"error": {"type": "busy"}, "status": status}));
    if let Some(seconds) = retry_after {
        reply.headers.push(("retry-after".to_owned(), seconds.to_string()));
    }
    reply
}

/// A request that is too large.
pub fn too_large() -> Reply {
    Reply::json(413, &json!({"error": {"type": "too large"}, "status": 413}))
}

/// What a server says of an index while it has not read which there are.
pub fn no_such_index() -> Reply {
    Reply::json(
        404,
        &json!({"error": {"type": "index_not_found_exception", "reason": "no such index"}, "status": 404}),
    )
}

/// What it says then of documents.
pub fn not_recovered() -> Reply {
    let reason = "blocked by: [SERVICE_UNAVAILABLE/1/state not recovered / initialized];";
    Reply::json(503, &json!({"error": {"type": "cluster_block_exception", "reason": reason}, "status": 503}))
}

/// What it says of documents in an index of which no shard has begun.
pub fn no_shards(mut reply: Reply) -> Reply {
    let mut parsed: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    for document in parsed["docs"].as_array_mut().into_iter().flatten() {
        *document = json!({"error": {"type": "no_shard_available_action_exception"}});
    }
    reply.body = parsed.to_string().into_bytes();
    reply
}

/// The true answer under a type that it is not.
pub fn as_text(mut reply: Reply) -> Reply {
    reply.headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    reply
}

/// The true answer, its JSON cut off in the middle.
pub fn cut_json(mut reply: Reply) -> Reply {
    reply.body.truncate(reply.body.len() / 2);
    reply
}

/// The true answer without its last item.
pub fn fewer_items(reply: Reply) -> Reply {
    with_items(reply, |items| {
        items.pop();
    })
}

/// The true answer with its last item twice.
pub fn more_items(reply: Reply) -> Reply {
    with_items(reply, |items| items.extend(items.last().cloned()))
}

fn with_items(mut reply: Reply, change: impl FnOnce(&mut Vec<Value>)) -> Reply {
    let mut parsed: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if let Some(items) = parsed["items"].as_array_mut() {
        change(items);
        reply.body = parsed.to_string().into_bytes();
    }
    reply
}

/// The answer to a request of which the items with a status here were refused, and the rest answered as in `carried_out`.
pub(crate) fn refusing(statuses: &[Option<u16>], carried_out: Vec<Value>) -> Reply {
    let mut carried_out = carried_out.into_iter();
    let item = |status: &Option<u16>| match status {
        None => carried_out.next(),
        Some(status) => {
            let kind =
                if *status == 429 { "rejected_execution_exception" } else { "mapper_parsing_exception" };
            let error = json!({"type": kind, "reason": "refused by the test"});
            Some(json!({"create": {"status": status, "error": error}}))
        }
    };
    let items: Vec<Value> = statuses.iter().filter_map(item).collect();
    let failed = |item: &Value| item["create"]["status"].as_u64().is_some_and(|status| status >= 300);
    Reply::json(200, &json!({"took": 1, "errors": items.iter().any(failed), "items": items}))
}
