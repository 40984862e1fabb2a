//! Kibana, or OpenSearch Dashboards, as its API for saved objects.
//!
//! In: an address, who asks, and in which space or tenant. Out: what is there; objects imported or deleted; or why not, with
//! what to do. It looks before anything else whether that is Kibana at all. A question changes nothing.

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::objects::{FORMS, Group, Object, ndjson};
use crate::config::ElasticsearchConfig;
use crate::output::http::{Call, HttpClient, Reply, words};

/// Between the parts of an upload. No object holds it.
const BOUNDARY: &str = "taffrail-f0b1c0de5a7e11ab1e";
const MULTIPART: &str = "multipart/form-data; boundary=taffrail-f0b1c0de5a7e11ab1e";
const JSON: &str = "application/json";

/// How many objects a page of a search has.
const PAGE: usize = 500;

/// Where saved objects are.
pub struct Server {
    client: HttpClient,
    /// What paths of a space begin with.
    space: String,
}

/// Which of the two it is, and which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its name.
    pub name: &'static str,
    /// Its version, if it tells.
    pub version: Option<String>,
}

/// An object as it is there.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its type.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What is in it.
    pub attributes: Value,
    /// When it was last changed, in milliseconds since 1970; 0 if it is not told.
    pub changed: i64,
}

impl Server {
    /// At the endpoint of `config`, in this space and tenant.
    ///
    /// # Errors
    /// What is said of it cannot work.
    pub fn open(
        config: &ElasticsearchConfig,
        space: Option<&str>,
        tenant: Option<&str>,
    ) -> Result<Server, String> {
        // Each product wants its own, and does not mind the other's.
        let mut headers = HeaderMap::new();
        for name in ["kbn-xsrf", "osd-xsrf"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("true"));
        }
        if let Some(tenant) = tenant {
            let value = HeaderValue::from_str(tenant)
                .map_err(|_| "--tenant has letters that a header cannot carry".to_owned())?;
            headers.insert(HeaderName::from_static("securitytenant"), value);
        }
        let client = HttpClient::new(config).map_err(|error| error.to_string())?.with_headers(headers);
        Ok(Server { client, space: space.map(|space| format!("/s/{space}")).unwrap_or_default() })
    }

    /// What answers there.
    ///
    /// # Errors
    /// Nothing does, it is something else, too old, or does not let us in.
    pub async fn product(&self) -> Result<Product, String> {
        let reply = self.send(Method::GET, "/api/status", "", JSON, Bytes::new()).await?;
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if !reply.status.is_success() {
            return Err(match reply.status {
                _ if is_search_server(&body) => format!(
                    "{} is Elasticsearch or OpenSearch itself: --kibana wants the address of Kibana, usually at port 5601",
                    reply.from
                ),
                StatusCode::NOT_FOUND => format!(
                    "{} has no Kibana under this path: write its base path too, as in --kibana https://HOST/_dashboards",
                    reply.from
                ),
                _ => told(&reply),
            });
        }
        let version = body["version"]["number"].as_str().map(str::to_owned);
        if version.is_none() && !body["status"].is_object() {
            return Err(format!("{} answers, and is neither Kibana nor OpenSearch Dashboards", reply.from));
        }
        let mut numbers =
            version.iter().flat_map(|version| version.split('.')).map_while(|part| part.parse::<u32>().ok());
        let (major, minor) = (numbers.next(), numbers.next().unwrap_or(0));
        if let (Some(major @ 4..=7), Some(version)) = (major, &version)
            && (major, minor) < (7, 10)
        {
            return Err(format!("{} is Kibana {version}: it takes 7.10 or later", reply.from));
        }
        let name = if major.is_some_and(|major| major < 4) { "OpenSearch Dashboards" } else { "Kibana" };
        Ok(Product { name, version })
    }

    /// Whether the space is there.
    ///
    /// # Errors
    /// It is not, or could not be asked.
    pub async fn space(&self, product: &Product, name: &str) -> Result<(), String> {
        if product.name != "Kibana" {
            return Err(format!("{} has no spaces: leave --space out, and see --tenant", product.name));
        }
        // Asked outside of any: within one that is not there Kibana would answer as if it were.
        let outside = format!("/api/spaces/space/{name}");
        let reply = self.send(Method::GET, &outside, "", JSON, Bytes::new()).await?;
        match reply.status {
            StatusCode::NOT_FOUND => {
                Err(format!("there is no space `{name}`: make it in Kibana, under Stack Management"))
            }
            status if status.is_success() => Ok(()),
            _ => Err(told(&reply)),
        }
    }

    /// Of these objects those that are there.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn get(&self, objects: &[Object]) -> Result<Vec<Found>, String> {
        let wanted: Vec<Value> =
            objects.iter().map(|object| json!({ "type": object.kind, "id": object.id })).collect();
        let body = Value::Array(wanted).to_string();
        let found = json_of(
            self.send(Method::POST, &self.within("/api/saved_objects/_bulk_get"), "", JSON, body.into())
                .await?,
        )?;
        let found =
            found["saved_objects"].as_array().ok_or("an answer without `saved_objects`: is it Kibana?")?;
        let failed = |one: &&Value| one["error"].is_object() && one["error"]["statusCode"] != 404;
        if let Some(other) = found.iter().find(failed) {
            let why = other["error"]["message"].as_str().unwrap_or_default();
            return Err(format!("{}: {}", name_of(other), words::line(why)));
        }
        Ok(found.iter().filter(|one| !one["error"].is_object()).map(found_of).collect())
    }

    /// Whether there may be tenants, which whoever has none ignores in silence.
    ///
    /// # Errors
    /// There are none, or it could not be asked.
    pub async fn tenants(&self, product: &Product) -> Result<(), String> {
        if product.name != "Kibana" {
            return Ok(());
        }
        // Open Distro's Kibana 7.10 has tenants, and no spaces.
        let reply = self.send(Method::GET, "/api/spaces/space/default", "", JSON, Bytes::new()).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(format!("{} has no tenants: leave --tenant out, and see --space", product.name))
    }

    /// Those of these objects that are there, and others whose ids begin as ours do, made by other versions.
    ///
    /// # Errors
    /// It could not be asked.
    pub async fn ours(&self, groups: &[Group], prefix: &str) -> Result<Vec<Found>, String> {
        let mut ours = Vec::new();
        for group in groups {
            ours.extend(self.get(&group.objects).await?);
        }
        let kinds: String = FORMS.iter().map(|(kind, _)| format!("&type={kind}")).collect();
        // By the word that stands in all titles and descriptions of ours: there may be thousands of objects of others.
        let words = "search=taffrail&search_fields=title&search_fields=description";
        for page in 1.. {
            let query = format!("per_page={PAGE}&page={page}&{words}&fields=title&fields=description{kinds}");
            let found = json_of(
                self.send(Method::GET, &self.within("/api/saved_objects/_find"), &query, JSON, Bytes::new())
                    .await?,
            )?;
            let all = found["saved_objects"].as_array().cloned().unwrap_or_default();
            let full = all.len() == PAGE;
            for one in all.iter().map(found_of).filter(|one| one.id.starts_with(prefix)) {
                if !ours.iter().any(|known: &Found| (&known.kind, &known.id) == (&one.kind, &one.id)) {
                    ours.push(one);
                }
            }
            if !full {
                break;
            }
        }
        Ok(ours)
    }

    /// Imports objects, and overwrites those that are there. What is too large for one request goes in several.
    ///
    /// # Errors
    /// Some were refused: each with its reason, and what to do.
    pub async fn import(&self, objects: &[Object]) -> Result<(), String> {
        let mut rest = vec![objects];
        while let Some(objects) = rest.pop() {
            let body = multipart(&ndjson(objects));
            let length = body.len();
            let reply = self
                .send(
                    Method::POST,
                    &self.within("/api/saved_objects/_import"),
                    "overwrite=true",
                    MULTIPART,
                    body.into(),
                )
                .await?;
            match reply.status {
                StatusCode::PAYLOAD_TOO_LARGE if objects.len() > 1 => {
                    let (first, second) = objects.split_at(objects.len() / 2);
                    rest.extend([second, first]);
                }
                StatusCode::PAYLOAD_TOO_LARGE => {
                    return Err(format!(
                        "{}; {} takes {length} bytes: raise savedObjects.maxImportPayloadBytes of Kibana, or the limit of the proxy before it",
                        said(&reply),
                        objects[0].id
                    ));
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    return Err(format!(
                        "{}; it takes the forms of Kibana 7.10 and later only",
                        said(&reply)
                    ));
                }
                _ => judged(&json_of(reply)?, objects)?,
            }
        }
        Ok(())
    }

    /// Deletes an object. One that is gone already is no error.
    ///
    /// # Errors
    /// It is refused.
    pub async fn delete(&self, kind: &str, id: &str) -> Result<(), String> {
        let path = self.within(&format!("/api/saved_objects/{kind}/{id}"));
        let reply = self.send(Method::DELETE, &path, "", JSON, Bytes::new()).await?;
        if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND {
            Ok(())
        } else {
            Err(told(&reply))
        }
    }

    /// A path as it is within the space.
    fn within(&self, path: &str) -> String {
        format!("{}{path}", self.space)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Reply, String> {
        let call = Call { method, path, query, content_type, body, compressed: false };
        // The client speaks of the key that an output has.
        self.client.send(&call).await.map_err(|error| error.to_string().replace("`endpoints`", "--kibana"))
    }
}

/// Elasticsearch knows no `/api/status`, and says so in its own way.
fn is_search_server(body: &Value) -> bool {
    body["error"].is_object()
        || body["error"].as_str().is_some_and(|error| error.contains("no handler found"))
}

/// A reply that is no success, and what to do.
fn told(reply: &Reply) -> String {
    let remedy = match reply.status {
        StatusCode::UNAUTHORIZED => {
            "; say who asks by --auth, or by --output as one of the configuration's outputs does"
        }
        StatusCode::FORBIDDEN => {
            "; who asks needs the right to manage saved objects (in Kibana: the feature Saved Objects Management)"
        }
        StatusCode::SERVICE_UNAVAILABLE => "; is it still starting?",
        _ => "",
    };
    format!("{}{remedy}", said(reply))
}

/// A reply that is no success, in one line. Kibana's own reason is its `message`; its `error` is the status in words.
fn said(reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match body["message"].as_str().filter(|_| body["statusCode"].is_number()) {
        Some(message) => format!("{} answered {}: {}", reply.from, reply.status, words::line(message)),
        None => reply.told(),
    }
}

fn json_of(reply: Reply) -> Result<Value, String> {
    if !reply.status.is_success() {
        return Err(told(&reply));
    }
    serde_json::from_slice(&reply.body)
        .map_err(|error| format!("{} answered what is no JSON: {error}", reply.from))
}

fn name_of(one: &Value) -> String {
    format!("{} {}", one["type"].as_str().unwrap_or_default(), one["id"].as_str().unwrap_or_default())
}

fn found_of(one: &Value) -> Found {
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let changed = crate::record::time::unix_nanos(text("updated_at").as_bytes()).unwrap_or(0) / 1_000_000;
    Found { kind: text("type"), id: text("id"), attributes: one["attributes"].clone(), changed }
}

/// A file in a form, as a browser would send it.
fn multipart(file: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"taffrail.ndjson\"\r\n\
         Content-Type: application/ndjson\r\n\r\n{file}\r\n--{BOUNDARY}--\r\n"
    )
}

/// The answer to an import, which is 200 even where nothing was imported.
fn judged(answer: &Value, objects: &[Object]) -> Result<(), String> {
    let mut refused: Vec<String> = Vec::new();
    for error in answer["errors"].as_array().into_iter().flatten() {
        let why = &error["error"];
        let said = why["message"].as_str().or(why["reason"].as_str()).unwrap_or_default();
        let reason = match why["type"].as_str().unwrap_or("unknown") {
            "missing_references" => {
                let missing: Vec<String> =
                    why["references"].as_array().into_iter().flatten().map(name_of).collect();
                format!("it names {}, which is not there: set up all of it again", missing.join(", "))
            }
            "unsupported_type" => "this server has no such type of object".to_owned(),
            "conflict" | "ambiguous_conflict" => {
                "another object has this id, in this space or another: delete it, or use another space"
                    .to_owned()
            }
            other => format!("{other}: {said}"),
        };
        refused.push(format!("{}: {reason}", name_of(error)));
    }
    if refused.is_empty() && (answer["success"] != true || answer["successCount"] != objects.len()) {
        let (made, of) = (&answer["successCount"], objects.len());
        refused.push(format!("{made} of {of} objects were imported, and no reason is told"));
    }
    if refused.is_empty() { Ok(()) } else { Err(refused.join("; ")) }
}
