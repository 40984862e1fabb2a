//! The description of the dashboards: what `dashboards/taffrail.toml` may hold.
//!
//! In: that file, which is part of the program. Out: what it says, with its defaults. It knows nothing of saved objects.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The description itself.
const TEXT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/taffrail.toml"));

/// Everything that is described.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The colours of values, `#RRGGBB`, wherever they appear.
    pub colours: BTreeMap<String, String>,
    /// Searches that dashboards share.
    pub searches: Vec<Search>,
    /// The dashboards, in the order of their links.
    pub dashboards: Vec<Dashboard>,
}

/// Documents one by one, newest first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// What its id ends with.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// Which documents, in Lucene's syntax; empty: all.
    #[serde(default)]
    pub query: String,
    /// The fields that are shown.
    pub columns: Vec<String>,
}

/// One page of panels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// What its id ends with.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Which documents its panels ask.
    #[serde(default)]
    pub over: Over,
    /// Which of these, for all its panels; empty: all.
    #[serde(default)]
    pub query: String,
    /// Its panels, from left to right and down.
    pub panels: Vec<Panel>,
}

/// Which documents are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Logs, without the agents' health records.
    #[default]
    Logs,
    /// The agents' health records.
    Health,
}

/// One panel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// What its id ends with, behind the dashboard's.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// What it looks like.
    pub kind: Kind,
    /// Its width, of 48.
    pub width: u32,
    /// Its height; 12 is a quarter of a screen.
    #[serde(default = "twelve")]
    pub height: u32,
    /// Which of the dashboard's documents; empty: all.
    #[serde(default)]
    pub query: String,
    /// Whether it goes from left to right by time.
    #[serde(default)]
    pub over_time: bool,
    /// What it is split by, the outermost first.
    #[serde(default)]
    pub by: Vec<By>,
    /// What is added up; nothing said: how many there are.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// For `series` and `total`: what is added up there.
    #[serde(default)]
    pub series: Vec<Series>,
    /// For those: how numbers are written (`number`, `bytes`, `percent`).
    #[serde(default)]
    pub format: Option<String>,
    /// For `table`: the label of the metric beside which each row's share of all rows stands.
    #[serde(default)]
    pub share: Option<String>,
    /// For `search`: the search's id.
    #[serde(default)]
    pub search: Option<String>,
    /// For `text`: Markdown.
    #[serde(default)]
    pub text: Option<String>,
    /// For `vega`: the specification as JSON, in which `INDEX` stands for the pattern of indices.
    #[serde(default)]
    pub vega: Option<String>,
}

fn twelve() -> u32 {
    12
}

/// What a panel looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Stacked areas.
    Area,
    /// Stacked bars.
    Bars,
    /// Lines.
    Line,
    /// Bars from left to right, the longest on top.
    Ranking,
    /// A ring.
    Pie,
    /// Squares, the darker the more.
    Heatmap,
    /// Rows and columns.
    Table,
    /// Numbers, large.
    Number,
    /// Lines by TSVB, which can calculate: rates, and shares of a whole.
    Series,
    /// A large number by TSVB, over the whole time.
    Total,
    /// A saved search.
    Search,
    /// Words.
    Text,
    /// What a specification of Vega-Lite draws.
    Vega,
}

/// What a panel is split by: the values of a field, or filters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// The field.
    #[serde(default)]
    pub field: Option<String>,
    /// How many of its values at most.
    #[serde(default = "ten")]
    pub top: u32,
    /// Its name for people.
    #[serde(default)]
    pub label: Option<String>,
    /// What documents without the field are shown as; nothing said: they are not.
    #[serde(default)]
    pub missing: Option<String>,
    /// The label of the metric by which values are ordered; nothing said: the first one.
    #[serde(default)]
    pub order: Option<String>,
    /// Filters in place of a field.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

fn ten() -> u32 {
    10
}

/// Some of a panel's documents under a name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The name.
    pub label: String,
    /// Which, in Lucene's syntax.
    pub query: String,
}

/// What is added up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// `count`, `sum`, `avg`, `min`, `max`, `cardinality`, `percentiles`; in series also `ratio`.
    pub agg: String,
    /// Of which field.
    #[serde(default)]
    pub field: Option<String>,
    /// Its name for people.
    #[serde(default)]
    pub label: Option<String>,
    /// For `ratio`: which documents are counted, in Lucene's syntax, as a share of all.
    #[serde(default)]
    pub of: Option<String>,
}

/// What TSVB calculates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its name for people.
    pub label: String,
    /// The value whose colour it has.
    #[serde(default)]
    pub colour: Option<String>,
    /// The field by whose values it is split.
    #[serde(default)]
    pub by: Option<String>,
    /// What is added up, by names that `math` uses.
    #[serde(default)]
    pub metrics: BTreeMap<String, Metric>,
    /// What is made of it: `params.NAME`, and `params._interval`, the milliseconds of a point.
    #[serde(default)]
    pub math: Option<String>,
    /// In place of both: a field of which a month's sum is foretold.
    #[serde(default)]
    pub projected: Option<String>,
}

impl Source {
    /// The description that this program holds.
    ///
    /// # Panics
    /// Where it is not as it must be, which a test would have seen.
    #[allow(clippy::expect_used, reason = "a part of the program, read by a test")]
    pub fn read() -> Source {
        toml::from_str(TEXT).expect("dashboards/taffrail.toml")
    }
}
