//! A stand-in of Kibana's API for saved objects, and of OpenSearch Dashboards', as they are documented. No real one can be had
//! from the registries that tests draw on.
//!
//! What comes in: requests, each held against what the product asks: method, header, base path, space, form of an upload, types
//! and versions of objects, references. What goes out: answers in the product's own form. It draws nothing, asks no search
//! server, and is stricter than the real one where that is easy to be.

mod forms;

use crate::clock;
use crate::http::{self, Reply, Request};
use crate::sigv4;
use forms::{in_form, missing, upload};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// The key that a signed request bears, and its secret.
pub const KEY: (&str, &str) = ("AKIDTEST", "secret-of-the-test");

/// What it is, and how it behaves.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Whether it is OpenSearch Dashboards.
    pub opensearch: bool,
    /// Its version.
    pub version: &'static str,
    /// What every path begins with, such as `/_dashboards`.
    pub base: &'static str,
    /// The spaces that there are besides the default one.
    pub spaces: Vec<&'static str>,
    /// The `authorization` that it asks for; `AWS4` for a signature of [`KEY`].
    pub authorization: Option<&'static str>,
    /// The tenant that it asks for.
    pub tenant: Option<&'static str>,
    /// The largest upload in bytes.
    pub max_payload: usize,
    /// Who may only read.
    pub read_only: bool,
    /// Ids of objects that it fails to import.
    pub fails: Vec<&'static str>,
    /// Types that it does not know.
    pub lacks: Vec<&'static str>,
}

impl Manner {
    /// Kibana of this version, which lets everybody in.
    pub fn kibana(version: &'static str) -> Manner {
        Manner {
            opensearch: false,
            version,
            base: "",
            spaces: Vec::new(),
            authorization: None,
            tenant: None,
            max_payload: 26_214_400,
            read_only: false,
            fails: Vec::new(),
            lacks: Vec::new(),
        }
    }

    /// OpenSearch Dashboards of this version, likewise.
    pub fn opensearch(version: &'static str) -> Manner {
        Manner { opensearch: true, ..Manner::kibana(version) }
    }

    /// Whether index patterns may hold what came with Kibana 7.12.
    fn has_data_views(&self) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        !self.opensearch && (numbers.next(), numbers.next()) >= (Some(7), Some(12))
    }

    fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

/// An object as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// What is in it.
    pub attributes: Value,
    /// What that names.
    pub references: Value,
    /// When it was last changed, in nanoseconds since 1970.
    pub changed: u64,
}

/// By space, type and id.
type Objects = BTreeMap<(String, String, String), Kept>;

#[derive(Default)]
struct State {
    objects: Objects,
    changes: Vec<String>,
}

/// A running stand-in.
pub struct Kibana {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Kibana {
    /// Begins to listen.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn open(manner: Manner) -> Kibana {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server { manner, state: state.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // The end of a connection is an error here and nobody's concern.
                thread::spawn(move || server.serve(&stream));
            }
        });
        Kibana { address, state }
    }

    /// Its address, as a browser has it, without a base path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The ids of a type in a space, the default one being the empty name.
    pub fn ids(&self, space: &str, kind: &str) -> Vec<String> {
        let lock = lock(&self.state);
        lock.objects.keys().filter(|key| key.0 == space && key.1 == kind).map(|key| key.2.clone()).collect()
    }

    /// The attributes of an object of the default space.
    ///
    /// # Panics
    /// When it is not there.
    pub fn attributes(&self, kind: &str, id: &str) -> Value {
        let key = (String::new(), kind.to_owned(), id.to_owned());
        lock(&self.state).objects.get(&key).unwrap_or_else(|| panic!("no {kind} {id}")).attributes.clone()
    }

    /// How many objects there are in all.
    pub fn count(&self) -> usize {
        lock(&self.state).objects.len()
    }

    /// Requests that changed something since the last call.
    pub fn changes(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).changes)
    }

    /// Somebody works on an object of the default space, so many seconds after now; makes it if it is not there.
    pub fn edits(&self, kind: &str, id: &str, seconds: u64, edit: impl FnOnce(&mut Value)) {
        let key = (String::new(), kind.to_owned(), id.to_owned());
        let new = || Kept { attributes: json!({}), references: json!([]), changed: 0 };
        let mut state = lock(&self.state);
        let kept = state.objects.entry(key).or_insert_with(new);
        edit(&mut kept.attributes);
        kept.changed = clock::now() + seconds * 1_000_000_000;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panicked")
}

#[derive(Clone)]
struct Server {
    manner: Manner,
    state: Arc<Mutex<State>>,
}

/// A refusal as hapi makes it.
fn refusal(status: u16, error: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "statusCode": status, "error": error, "message": message }))
}

fn bad(message: &str) -> Reply {
    refusal(400, "Bad Request", message)
}

impl Server {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = http::read_request(&mut reader, &mut &*stream)? {
            let reply = self.answer(&request).unwrap_or_else(|refusal| refusal);
            (&*stream).write_all(&http::message_of(&reply))?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Result<Reply, Reply> {
        let manner = &self.manner;
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let not_found = || refusal(404, "Not Found", "Not Found");
        let path = path.strip_prefix(manner.base).ok_or_else(not_found)?;
        self.let_in(request)?;
        let header = if manner.opensearch { "osd-xsrf" } else { "kbn-xsrf" };
        if request.method != "GET" && request.header(header).is_none() {
            return Err(bad(&format!("Request must contain a {header} header.")));
        }
        let (space, path) = match path.strip_prefix("/s/").filter(|_| !manner.opensearch) {
            Some(rest) => {
                let (space, _) = rest.split_once('/').ok_or_else(not_found)?;
                (space.to_owned(), &rest[space.len()..])
            }
            None => (String::new(), path),
        };
        let body = || {
            serde_json::from_slice::<Value>(&request.body)
                .map_err(|_| bad("Invalid request payload JSON format"))
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["api", "status"]) => Ok(self.status()),
            ("GET", ["api", "spaces", "space", name]) if !manner.opensearch => {
                assert!(space.is_empty(), "a space is looked for from outside of it");
                // Where there are tenants, as in Open Distro's, there are no spaces.
                if manner.tenant.is_none() && (*name == "default" || manner.spaces.contains(name)) {
                    Ok(Reply::json(200, &json!({ "id": name, "name": name })))
                } else {
                    Err(not_found())
                }
            }
            ("POST", ["api", "saved_objects", "_bulk_get"]) => self.bulk_get(&space, &body()?),
            ("GET", ["api", "saved_objects", "_find"]) => self.find(&space, query),
            ("POST", ["api", "saved_objects", "_import"]) => self.import(&space, query, request),
            ("DELETE", ["api", "saved_objects", kind, id]) => {
                self.may_write(kind)?;
                let mut state = lock(&self.state);
                state.changes.push(format!("DELETE {kind} {id}"));
                let key = (space, (*kind).to_owned(), (*id).to_owned());
                let gone = state.objects.remove(&key).is_some();
                let message = format!("Saved object [{kind}/{id}] not found");
                if gone { Ok(Reply::json(200, &json!({}))) } else { Err(refusal(404, "Not Found", &message)) }
            }
            _ => Err(not_found()),
        }
    }

    fn let_in(&self, request: &Request) -> Result<(), Reply> {
        let manner = &self.manner;
        let denied = |why: &str| Err(refusal(401, "Unauthorized", why));
        match manner.authorization {
            Some("AWS4") => {
                let Request { method, target, headers, body } = request;
                let signed = sigv4::verify(&sigv4::Request { method, target, headers, body }, |key| {
                    (key == KEY.0).then(|| KEY.1.to_owned())
                });
                match signed {
                    Ok(signed) if signed.service == "es" => {}
                    other => return denied(&format!("{other:?}")),
                }
            }
            Some(wanted) if request.header("authorization") != Some(wanted) => {
                return denied(
                    "[security_exception]: missing authentication credentials for REST request [/_security/_authenticate]",
                );
            }
            _ => {}
        }
        // Elastic's Kibana does not know the header.
        let has_tenants = manner.opensearch || manner.tenant.is_some();
        if has_tenants && request.header("securitytenant") != manner.tenant {
            return Err(refusal(403, "Forbidden", "no permissions for this tenant"));
        }
        Ok(())
    }

    fn may_write(&self, kind: &str) -> Result<(), Reply> {
        if self.manner.read_only {
            return Err(refusal(403, "Forbidden", &format!("Unable to bulk_create {kind}")));
        }
        Ok(())
    }

    fn status(&self) -> Reply {
        let status = if self.manner.opensearch {
            json!({ "overall": { "state": "green", "title": "Green" } })
        } else {
            json!({ "overall": { "level": "available" } })
        };
        let version = json!({ "number": self.manner.version, "build_hash": "x", "build_number": 1, "build_snapshot": false });
        Reply::json(200, &json!({ "name": "test", "uuid": "u", "version": version, "status": status }))
    }

    fn bulk_get(&self, space: &str, body: &Value) -> Result<Reply, Reply> {
        let wanted = body.as_array().ok_or_else(|| bad("[request body]: expected value of type [array]"))?;
        let state = lock(&self.state);
        let found: Vec<Value> = wanted
            .iter()
            .map(|one| {
                let text = |key: &str| one[key].as_str().expect("a type and an id").to_owned();
                let key = (space.to_owned(), text("type"), text("id"));
                match state.objects.get(&key) {
                    Some(kept) => shown(&key, kept, kept.attributes.clone()),
                    None => {
                        let message = format!("Saved object [{}/{}] not found", key.1, key.2);
                        let error = json!({ "statusCode": 404, "error": "Not Found", "message": message });
                        json!({ "type": key.1, "id": key.2, "error": error })
                    }
                }
            })
            .collect();
        Ok(Reply::json(200, &json!({ "saved_objects": found })))
    }

    fn find(&self, space: &str, query: &str) -> Result<Reply, Reply> {
        let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let all = |name: &str| {
            pairs.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let number =
            |name: &str, default: usize| all(name).first().map_or(Ok(default), |value| value.parse());
        let (Ok(page), Ok(per_page)) = (number("page", 1), number("per_page", 20)) else {
            return Err(bad("[request query.page]: expected value of type [number]"));
        };
        let (kinds, fields) = (all("type"), all("fields"));
        if kinds.is_empty() {
            return Err(bad("[request query.type]: expected at least one defined value but got [undefined]"));
        }
        let (search, search_fields) = (all("search"), all("search_fields"));
        // The real one would list everything, however much that is.
        let word =
            search.first().ok_or_else(|| bad("[request query.search]: a find is to be narrowed here"))?;
        let state = lock(&self.state);
        let has_word = |kept: &Kept| {
            let texts = search_fields.iter().filter_map(|name| kept.attributes[*name].as_str());
            let mut words = texts.flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric()));
            words.any(|found| found.eq_ignore_ascii_case(word))
        };
        let found = state.objects.iter().filter(|(key, _)| key.0 == space && kinds.contains(&&*key.1));
        let found = found.filter(|(_, kept)| has_word(kept));
        let found: Vec<Value> = found
            .map(|(key, kept)| {
                let attributes = kept.attributes.as_object().into_iter().flatten();
                let chosen = attributes.filter(|(name, _)| fields.is_empty() || fields.contains(&&***name));
                shown(
                    key,
                    kept,
                    chosen.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>().into(),
                )
            })
            .collect();
        let total = found.len();
        let page_of: Vec<Value> = found.into_iter().skip((page - 1) * per_page).take(per_page).collect();
        Ok(Reply::json(
            200,
            &json!({ "page": page, "per_page": per_page, "total": total, "saved_objects": page_of }),
        ))
    }

    fn import(&self, space: &str, query: &str, request: &Request) -> Result<Reply, Reply> {
        if query != "overwrite=true" {
            return Err(bad("[request query]: only overwrite is expected here"));
        }
        if request.body.len() > self.manner.max_payload {
            let message =
                format!("Payload content length greater than maximum allowed: {}", self.manner.max_payload);
            return Err(refusal(413, "Request Entity Too Large", &message));
        }
        let file = upload(request).map_err(|why| bad(&why))?;
        let mut objects = Vec::new();
        for line in file.lines().filter(|line| !line.trim().is_empty()) {
            objects.push(serde_json::from_str::<Value>(line).map_err(|error| bad(&error.to_string()))?);
        }
        for object in &objects {
            self.may_write(object["type"].as_str().unwrap_or_default())?;
            in_form(object, self.manner.has_data_views())?;
        }
        let mut state = lock(&self.state);
        let state = &mut *state;
        let mut errors = Vec::new();
        let now = clock::now();
        for object in &objects {
            let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            let key = (space.to_owned(), text("type"), text("id"));
            let missing = missing(object, &objects, |kind, id| {
                state.objects.contains_key(&(space.to_owned(), kind.to_owned(), id.to_owned()))
            });
            // Since version 8 an id is unique beyond its space.
            let elsewhere = self.manner.major() >= 8
                && state
                    .objects
                    .keys()
                    .any(|other| other.0 != space && (&other.1, &other.2) == (&key.1, &key.2));
            let error = if self.manner.lacks.contains(&&*key.1) {
                Some(json!({ "type": "unsupported_type" }))
            } else if !missing.is_empty() {
                Some(json!({ "type": "missing_references", "references": missing }))
            } else if elsewhere {
                Some(json!({ "type": "ambiguous_conflict", "destinations": [] }))
            } else if self.manner.fails.contains(&&*key.2) {
                Some(json!({ "type": "unknown", "message": "an internal error occurred", "statusCode": 500 }))
            } else {
                None
            };
            if let Some(error) = error {
                let meta = json!({ "title": object["attributes"]["title"], "icon": "app" });
                errors.push(
                    json!({ "type": key.1, "id": key.2, "meta": meta, "overwrite": true, "error": error }),
                );
                continue;
            }
            let mut attributes = object["attributes"].clone();
            // Later versions bring what they import up to date.
            if self.manner.major() >= 8 && key.1 == "visualization" {
                attributes["visState"] = json!(attributes["visState"].as_str().unwrap().replace('{', "{ "));
            }
            state
                .objects
                .insert(key, Kept { attributes, references: object["references"].clone(), changed: now });
        }
        let imported = objects.len() - errors.len();
        state.changes.push(format!("import of {imported} of {}", objects.len()));
        let mut answer = json!({ "success": errors.is_empty(), "successCount": imported, "warnings": [] });
        if !errors.is_empty() {
            answer["errors"] = json!(errors);
        }
        Ok(Reply::json(200, &answer))
    }
}

fn shown((_, kind, id): &(String, String, String), kept: &Kept, attributes: Value) -> Value {
    // To the millisecond, as everywhere in Kibana.
    let time = clock::rfc3339(kept.changed);
    let time = format!("{}Z", &time[..23]);
    json!({
        "type": kind, "id": id, "namespaces": ["default"], "attributes": attributes, "references": kept.references,
        "updated_at": time, "version": "WzEsMV0=",
    })
}
