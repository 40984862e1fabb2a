//! Saved objects, as Kibana 7.10 and OpenSearch Dashboards export them.
//!
//! In: the description, and how indices and ids are called. Out: groups of objects, and NDJSON. The same description makes the
//! same objects on every day and machine. Nothing in them is newer than Kibana 7.10, of which OpenSearch Dashboards was made:
//! later versions bring them up to date themselves.

use serde_json::{Map, Value, json};

use super::source::{Dashboard, Kind, Over, Panel, Search, Source};
use super::{classic, tsvb};

/// The versions of the forms that objects are written in.
pub const FORMS: [(&str, &str); 4] =
    [("dashboard", "7.9.3"), ("index-pattern", "7.6.0"), ("search", "7.9.3"), ("visualization", "7.10.0")];

/// What every id begins with.
pub const PREFIX: &str = "taffrail-";

/// What the description of an object of ours ends with, before a number made of all that is in it.
pub const MARK: &str = "Made by taffrail setup dashboards, ";

/// How wide a dashboard is.
const WIDTH: u32 = 48;

/// How high the panel of links is.
const LINKS: u32 = 4;

/// What tells health records from logs.
const HEALTH: &str = "taffrail.health.kind";

/// How numbers of these fields are shown.
const FORMATS: [(&str, &str); 10] = [
    ("event.duration", "duration"),
    ("http.request.body.bytes", "bytes"),
    ("http.request.bytes", "bytes"),
    ("http.response.body.bytes", "bytes"),
    ("http.response.bytes", "bytes"),
    ("taffrail.health.bytes", "bytes"),
    ("taffrail.health.lag_bytes", "bytes"),
    ("taffrail.health.memory", "bytes"),
    ("taffrail.health.retained", "bytes"),
    ("taffrail.health.retained_limit", "bytes"),
];

/// How things are called at the server.
#[derive(Debug, Clone)]
pub struct Names {
    /// The pattern of the indices with logs.
    pub logs: String,
    /// The pattern of those with the agents' health records.
    pub health: String,
    /// The space, where it is not the default one. Ids are unique beyond a space since Kibana 8, so it is a part of them.
    pub space: Option<String>,
}

impl Names {
    /// What ids begin with.
    pub fn prefix(&self) -> String {
        match &self.space {
            Some(space) => format!("{PREFIX}{space}-"),
            None => PREFIX.to_owned(),
        }
    }

    fn id(&self, name: &str) -> String {
        format!("{}{name}", self.prefix())
    }
}

/// One saved object.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its type.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// What is in it.
    pub attributes: Value,
    /// Which other objects that names.
    pub references: Value,
}

/// Objects that are imported together.
#[derive(Debug)]
pub struct Group {
    /// What it is, for people.
    pub what: String,
    /// Those that are referred to first.
    pub objects: Vec<Object>,
}

impl Object {
    fn new(
        kind: &'static str,
        id: String,
        mut attributes: Value,
        references: Vec<Value>,
        about: &str,
    ) -> Object {
        let references = Value::Array(references);
        if kind != "index-pattern" {
            let about = if about.is_empty() { String::new() } else { format!("{about}. ") };
            let number =
                crc32fast::hash(json!([kind, id, attributes, references, about]).to_string().as_bytes());
            attributes["description"] = json!(format!("{about}{MARK}{number:08x}"));
        }
        Object { kind, id, attributes, references }
    }

    /// Its line of NDJSON, without the end.
    pub fn line(&self) -> String {
        let version = FORMS.iter().find(|(kind, _)| *kind == self.kind).map(|(_, version)| *version);
        json!({
            "type": self.kind, "id": self.id, "attributes": self.attributes, "references": self.references,
            "migrationVersion": { self.kind: version },
        })
        .to_string()
    }
}

/// Everything, in the order in which it can be imported.
pub fn groups(source: &Source, names: &Names) -> Vec<Group> {
    let maker = Maker { source, names };
    let shared = ["logs", "health"].map(|name| maker.pattern(name)).into_iter();
    let shared = shared.chain(source.searches.iter().map(|search| maker.search(search)));
    let what =
        format!("index patterns {} and {}, {} searches", names.logs, names.health, source.searches.len());
    let mut groups = vec![Group { what, objects: shared.chain([maker.links()]).collect() }];
    groups.extend(source.dashboards.iter().map(|dashboard| maker.dashboard(dashboard)));
    groups
}

/// Objects as a file.
pub fn ndjson<'a>(objects: impl IntoIterator<Item = &'a Object>) -> String {
    objects.into_iter().map(|object| object.line() + "\n").collect()
}

struct Maker<'a> {
    source: &'a Source,
    names: &'a Names,
}

impl Maker<'_> {
    fn pattern(&self, name: &str) -> Object {
        let title = if name == "logs" { &self.names.logs } else { &self.names.health };
        let formats: Map<String, Value> = FORMATS
            .into_iter()
            .map(|(field, format)| {
                let params = match format {
                    "duration" => {
                        json!({ "inputFormat": "nanoseconds", "outputFormat": "asMilliseconds", "outputPrecision": 1 })
                    }
                    _ => json!({}),
                };
                (field.to_owned(), json!({ "id": format, "params": params }))
            })
            .collect();
        let attributes = json!({
            "title": title, "timeFieldName": classic::TIME, "fields": "[]",
            "fieldFormatMap": Value::Object(formats).to_string(),
        });
        Object::new("index-pattern", self.names.id(name), attributes, Vec::new(), "")
    }

    fn search(&self, search: &Search) -> Object {
        let (source, references) = self.search_source(Over::Logs, &[&search.query]);
        let attributes = json!({
            "title": format!("Taffrail: {}", search.title), "columns": search.columns, "sort": [[classic::TIME, "desc"]],
            "hits": 0, "version": 1, "kibanaSavedObjectMeta": { "searchSourceJSON": source },
        });
        Object::new("search", self.names.id(&format!("search-{}", search.id)), attributes, references, "")
    }

    /// The panel at the top of each dashboard. Addresses that begin with `#` hold in any space and under any base path.
    fn links(&self) -> Object {
        let links: Vec<String> = self
            .source
            .dashboards
            .iter()
            .map(|dashboard| {
                format!(
                    "[{}](#/view/{} \"{}\")",
                    dashboard.title,
                    self.names.id(&dashboard.id),
                    dashboard.about
                )
            })
            .collect();
        self.markdown("links", "Taffrail: links", &links.join(" · "), "")
    }

    fn markdown(&self, id: &str, title: &str, text: &str, about: &str) -> Object {
        let params = json!({ "fontSize": 12, "openLinksInNewTab": false, "markdown": text });
        let state = json!({ "title": title, "type": "markdown", "params": params, "aggs": [] });
        self.visualization(id, state, json!({}), json!({}).to_string(), Vec::new(), about)
    }

    fn visualization(
        &self,
        id: &str,
        state: Value,
        ui: Value,
        search_source: String,
        references: Vec<Value>,
        about: &str,
    ) -> Object {
        let attributes = json!({
            "title": state["title"], "visState": state.to_string(), "uiStateJSON": ui.to_string(), "version": 1,
            "kibanaSavedObjectMeta": { "searchSourceJSON": search_source },
        });
        Object::new("visualization", self.names.id(id), attributes, references, about)
    }

    /// What is asked, and the reference to where.
    fn search_source(&self, over: Over, queries: &[&str]) -> (String, Vec<Value>) {
        const INDEX: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";
        let pattern = if over == Over::Logs { "logs" } else { "health" };
        let source =
            json!({ "query": classic::lucene(&query(over, queries)), "filter": [], "indexRefName": INDEX });
        let reference = json!({ "name": INDEX, "type": "index-pattern", "id": self.names.id(pattern) });
        (source.to_string(), vec![reference])
    }

    fn panel(&self, dashboard: &Dashboard, panel: &Panel) -> Object {
        let id = format!("{}-{}", dashboard.id, panel.id);
        let title = format!("{} (Taffrail: {})", panel.title, dashboard.title);
        let queries = [dashboard.query.as_str(), panel.query.as_str()];
        let index = if dashboard.over == Over::Logs { &self.names.logs } else { &self.names.health };
        match panel.kind {
            Kind::Text => self.markdown(&id, &title, panel.text.as_deref().unwrap_or_default().trim(), ""),
            Kind::Vega => {
                let spec = panel
                    .vega
                    .as_deref()
                    .unwrap_or_default()
                    .trim()
                    .replace("\"INDEX\"", &json!(index).to_string());
                let state = json!({ "title": title, "type": "vega", "params": { "spec": spec }, "aggs": [] });
                self.visualization(&id, state, json!({}), json!({}).to_string(), Vec::new(), "")
            }
            Kind::Series | Kind::Total => {
                let colour = |value: &str| self.source.colours.get(value).cloned();
                let query = query(dashboard.over, &queries);
                let id_of = self.names.id(&id);
                let state = tsvb::state(panel, &title, &id_of, &query, dashboard.over, index, &colour);
                self.visualization(&id, state, json!({}), json!({}).to_string(), Vec::new(), "")
            }
            _ => {
                let (source, references) = self.search_source(dashboard.over, &queries);
                self.visualization(
                    &id,
                    classic::state(panel, &title),
                    self.colours(panel),
                    source,
                    references,
                    "",
                )
            }
        }
    }

    /// The colours of the values that a panel is split by, where values have any.
    fn colours(&self, panel: &Panel) -> Value {
        let levels = panel.by.iter().any(|by| by.field.as_deref() == Some("log.level"));
        let named =
            |value: &str| panel.by.iter().flat_map(|by| &by.filters).any(|filter| filter.label == value);
        let is_level = |value: &str| !value.ends_with("xx");
        let colours: Map<String, Value> = self
            .source
            .colours
            .iter()
            .filter(|(value, _)| (levels && is_level(value)) || named(value))
            .map(|(value, colour)| (value.clone(), json!(colour)))
            .collect();
        if colours.is_empty() || panel.kind == Kind::Table {
            json!({})
        } else {
            json!({ "vis": { "colors": colours } })
        }
    }

    fn dashboard(&self, dashboard: &Dashboard) -> Group {
        let mut objects = Vec::new();
        let mut shelf = Shelf { top: LINKS, left: 0, height: 0 };
        let mut panels = vec![json!({
            "gridData": { "x": 0, "y": 0, "w": WIDTH, "h": LINKS }, "embeddableConfig": { "hidePanelTitles": true },
        })];
        let mut shown = vec![("visualization", self.names.id("links"))];
        for panel in &dashboard.panels {
            let (x, y) = shelf.place(panel.width, panel.height);
            panels.push(json!({
                "gridData": { "x": x, "y": y, "w": panel.width, "h": panel.height }, "embeddableConfig": {},
                "title": panel.title,
            }));
            if panel.kind == Kind::Search {
                let search = format!("search-{}", panel.search.as_deref().unwrap_or_default());
                shown.push(("search", self.names.id(&search)));
            } else {
                let object = self.panel(dashboard, panel);
                shown.push((object.kind, object.id.clone()));
                objects.push(object);
            }
        }
        let mut references = Vec::new();
        for (number, (panel, (kind, id))) in panels.iter_mut().zip(shown).enumerate() {
            let name = format!("panel_{number}");
            panel["gridData"]["i"] = json!(number.to_string());
            panel["panelIndex"] = json!(number.to_string());
            panel["version"] = json!("7.9.3");
            panel["panelRefName"] = json!(name);
            references.push(json!({ "name": name, "type": kind, "id": id }));
        }
        let search_source = json!({ "query": classic::lucene(""), "filter": [] });
        let attributes = json!({
            "title": format!("Taffrail: {}", dashboard.title), "hits": 0, "version": 1, "timeRestore": false,
            "panelsJSON": Value::Array(panels).to_string(),
            "optionsJSON": json!({ "hidePanelTitles": false, "useMargins": true }).to_string(),
            "kibanaSavedObjectMeta": { "searchSourceJSON": search_source.to_string() },
        });
        let id = self.names.id(&dashboard.id);
        objects.push(Object::new("dashboard", id, attributes, references, &dashboard.about));
        Group { what: format!("dashboard {}: {}", dashboard.title, dashboard.about), objects }
    }
}

/// All of these at once, of logs or of health records.
fn query(over: Over, queries: &[&str]) -> String {
    let mut parts: Vec<String> =
        queries.iter().filter(|query| !query.is_empty()).map(|query| format!("({query})")).collect();
    parts.push(match over {
        Over::Logs => format!("NOT _exists_:{HEALTH}"),
        Over::Health => format!("_exists_:{HEALTH}"),
    });
    parts.join(" AND ")
}

/// Where the next panel goes.
struct Shelf {
    top: u32,
    left: u32,
    height: u32,
}

impl Shelf {
    fn place(&mut self, width: u32, height: u32) -> (u32, u32) {
        if self.left + width > WIDTH {
            self.top += self.height;
            (self.left, self.height) = (0, 0);
        }
        let place = (self.left, self.top);
        self.left += width;
        self.height = self.height.max(height);
        place
    }
}
