//! The walk through the routes: which of them decides over a container for one output.
//!
//! In: `[[routes]]`, and what is known of a container. Out: a [`Course`]. The first route that matches ends the walk, whether
//! it names this output or not, unless it says `continue`; of those on the way the first that names the output is the one.
//! What a pod wishes for its own logs changes what a route says, as far as `[annotations]` and the route allow; which route
//! decides it does not change. Where a fact that is missing could lead to another end, that is said instead. Never asks
//! anybody.

use std::sync::Arc;

use crate::catalog::origin::Origin;
use crate::config::routes::{
    self, Globs, Json, Lines, MatchConfig, Parse, RouteConfig, SampleConfig, TimeConfig,
};
use crate::config::{AnnotationsConfig, Config, Wish};
use crate::metadata::facts::PodFacts;
use crate::metadata::wishes::Wanted;
use crate::metadata::{Extent, NodeFacts};
use crate::record::hash::HashKey;
use crate::record::redact::Redactor;
use crate::record::treatment::{Sample, Treatment};

/// The routes as one output sees them.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    walk: Option<Arc<Walk>>,
    /// How the agent's own records are sent, if they are.
    own: Option<Arc<Treatment>>,
    /// The pod whose logs never come here: its namespace and name.
    left_out: Option<(String, String)>,
}

/// Them, with whose they are.
#[derive(Debug)]
struct Walk {
    output: String,
    annotations: AnnotationsConfig,
    routes: Vec<Route>,
    /// What hashes are made with.
    key: Option<HashKey>,
    /// Whether somebody wrote them: without any there is one that takes everything.
    written: bool,
}

/// One of them.
#[derive(Debug)]
struct Route {
    config: RouteConfig,
    /// What is done with records, if the route names the output, or lets pods choose it: one value for all routes that do
    /// the same.
    here: Option<Option<Arc<Treatment>>>,
}

/// What a container's pod wishes for its logs, and may.
enum Wishing {
    Nothing,
    /// That is not known, and could decide.
    Unknown,
    This(Wanted),
}

/// What becomes of a container's records at one output.
#[derive(Debug, Clone)]
pub enum Course {
    /// They are sent, and this is done with each.
    Sent(Option<Arc<Treatment>>),
    /// They are not: the routes send them elsewhere.
    Elsewhere,
    /// They are not: their pod wishes so.
    Excluded,
    /// Nor to anybody else: no route matches.
    Nowhere,
    /// That depends on what is not known yet.
    Unknown,
}

impl Course {
    /// Whether records are sent, or may be once more is known.
    pub fn is_here(&self) -> bool {
        matches!(self, Course::Sent(_) | Course::Unknown)
    }
}

/// Whether a route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// By what is not known yet.
    Maybe,
}

impl Match {
    fn of(truth: bool) -> Match {
        if truth { Match::Yes } else { Match::No }
    }
}

impl Routes {
    /// Those of a configuration, for the output of this name. Without any, everything is sent as it is, or as its pod wishes.
    /// `key`: the secret that hashes are made with.
    pub fn of(config: &Config, output: &str, key: Option<HashKey>) -> Routes {
        let own = config.health.outputs.iter().any(|name| name == output);
        let own = own.then(|| Arc::new(Treatment { own: true, ..Treatment::default() }));
        let annotations = config.annotations.clone();
        let mut configs = config.routes.clone();
        let written = !configs.is_empty();
        if !written {
            if annotations.is_nothing() {
                return Routes { walk: None, own, left_out: None };
            }
            configs.push(RouteConfig::everything(output));
        }
        let mut routes: Vec<Route> = Vec::with_capacity(configs.len());
        for config in configs {
            let named = config.outputs.iter().chain(&config.selectable_outputs).any(|name| name == output);
            let here = named.then(|| {
                let known = routes.iter().find_map(|earlier| {
                    earlier.here.clone().filter(|_| is_treated_alike(&earlier.config, &config))
                });
                known.unwrap_or_else(|| treatment(&config, key.as_ref()))
            });
            routes.push(Route { config, here });
        }
        let walk = Walk { output: output.to_owned(), annotations, routes, key, written };
        Routes { walk: Some(Arc::new(walk)), own, left_out: None }
    }

    /// The same but for a pod, of this namespace and name, whose logs are left out, whatever the routes say.
    pub fn without(self, pod: Option<(String, String)>) -> Routes {
        Routes { left_out: pod, ..self }
    }

    /// What becomes of a container of which so much is known.
    pub fn course(&self, facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> Course {
        self.decide(facts, origin, extent).0
    }

    /// The same, and which route says so, in words, where its records are sent by one.
    pub fn explained(
        &self,
        facts: &NodeFacts,
        origin: &Origin,
        extent: Extent<'_>,
    ) -> (Course, Option<String>) {
        let (course, place) = self.decide(facts, origin, extent);
        let route = |place: usize| {
            let walk = self.walk.as_ref().filter(|walk| walk.written)?;
            Some(format!("route {} ({})", place + 1, walk.routes[place].config.matches))
        };
        (course, place.and_then(route))
    }

    /// With the place of the route that sends them, if it is certain which one does.
    fn decide(&self, facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> (Course, Option<usize>) {
        if let Origin::Host(host) = origin
            && host.is_health()
        {
            // They go where they are asked for, and nobody else's rules are for them.
            let own = self.own.as_ref().map_or(Course::Elsewhere, |own| Course::Sent(Some(own.clone())));
            return (own, None);
        }
        if let (Origin::Container(container), Some((namespace, pod))) = (origin, &self.left_out)
            && (&container.namespace, &container.pod) == (namespace, pod)
        {
            return (Course::Elsewhere, None);
        }
        let Some(walk) = &self.walk else { return (Course::Sent(None), None) };
        let wishing = walk.wishing(origin, extent);
        // Where a route may match that is not certain to, the walk goes both ways; all ends must be the same one.
        let (mut ends, mut somebody) = (Vec::new(), false);
        for (place, route) in walk.routes.iter().enumerate() {
            let matched = matched(&route.config.matches, facts, origin, extent);
            if matched == Match::No {
                continue;
            }
            match route.end(walk, &wishing) {
                Some(end) => ends.push(end),
                None if !route.config.goes_on => ends.push(Course::Elsewhere),
                // The walk goes on, but somebody has it.
                None => {
                    somebody |= matched == Match::Yes;
                    continue;
                }
            }
            if matched == Match::Yes {
                let certain = matches!(ends[..], [Course::Sent(_)]).then_some(place);
                return (same(ends), certain);
            }
        }
        ends.push(if somebody { Course::Elsewhere } else { Course::Nowhere });
        (same(ends), None)
    }
}

impl Routes {
    /// What a container's pod wishes for its logs and is not followed here: not allowed, or not by the route that decides.
    pub fn suppressed(&self, facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> Vec<Wish> {
        let (Origin::Container(container), Extent::Known(_, known)) = (origin, extent) else {
            return Vec::new();
        };
        let wanted = known.pod.wishes.of(&container.name);
        if wanted.is_nothing() {
            return Vec::new();
        }
        let walk = self.walk.as_deref();
        let is_allowed =
            |wish: Wish| walk.is_some_and(|walk| walk.annotations.allows(&container.namespace, wish));
        let matching = |route: &&Route| matched(&route.config.matches, facts, origin, extent) == Match::Yes;
        let mut routes = walk.into_iter().flat_map(|walk| &walk.routes).filter(matching);
        let decides = routes.find(|route| route.here.is_some() || !route.config.goes_on);
        let Some(route) = decides.filter(|route| route.here.is_some()) else {
            // Not here, by whatever rule: who sends it counts. Where nobody may say anything, all send.
            let nobody = Wish::ALL.into_iter().filter(|wish| walk.is_none() && wanted.has(*wish));
            return nobody.collect();
        };
        let is_choice =
            |names: &Vec<String>| names.iter().any(|name| route.config.selectable_outputs.contains(name));
        let is_followed = |wish: Wish| {
            is_allowed(wish)
                && !route.config.mandatory
                && (wish != Wish::Output || wanted.outputs.as_ref().is_some_and(is_choice))
        };
        Wish::ALL.into_iter().filter(|wish| wanted.has(*wish) && !is_followed(*wish)).collect()
    }
}

/// What one route says of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It matches, and the walk ends.
    Decides,
    /// It matches, and the walk goes on.
    GoesOn,
    /// It does not match, by these keys.
    Not(Vec<String>),
    /// That depends on what is not known: by these keys.
    Unknown(Vec<String>),
    /// An earlier one has decided.
    NotAsked,
}

/// What each route of a configuration says of a container, for people.
pub fn verdicts(config: &Config, facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> Vec<Verdict> {
    let mut decided = false;
    let verdict = |route: &RouteConfig| {
        if decided {
            return Verdict::NotAsked;
        }
        let of = |wanted: Match| {
            let parts = route.matches.parts();
            let own = parts.iter().filter(|part| matched(part, facts, origin, extent) == wanted);
            own.map(ToString::to_string).collect::<Vec<_>>()
        };
        match matched(&route.matches, facts, origin, extent) {
            Match::Yes if route.goes_on => Verdict::GoesOn,
            Match::Yes => {
                decided = true;
                Verdict::Decides
            }
            Match::No => Verdict::Not(of(Match::No)),
            Match::Maybe => Verdict::Unknown(of(Match::Maybe)),
        }
    };
    config.routes.iter().map(verdict).collect()
}

impl Walk {
    fn wishing(&self, origin: &Origin, extent: Extent<'_>) -> Wishing {
        let Origin::Container(container) = origin else { return Wishing::Nothing };
        let allows = |wish: &Wish| self.annotations.allows(&container.namespace, *wish);
        match extent {
            Extent::Path => Wishing::Nothing,
            Extent::Missing if Wish::ALL.iter().any(|wish| wish.is_decisive() && allows(wish)) => {
                Wishing::Unknown
            }
            Extent::Missing => Wishing::Nothing,
            Extent::Known(_, known) => {
                let wanted = known.pod.wishes.of(&container.name);
                let refused = Wish::ALL.into_iter().filter(|wish| !allows(wish));
                let wanted = refused.fold(wanted, Wanted::without);
                if wanted.is_nothing() { Wishing::Nothing } else { Wishing::This(wanted) }
            }
        }
    }
}

impl Route {
    /// Where a walk ends that comes to this route, if it has to do with this output.
    fn end(&self, walk: &Walk, wishing: &Wishing) -> Option<Course> {
        let treatment = self.here.as_ref()?;
        let has = |names: &[String]| names.contains(&walk.output);
        let sent = || Course::Sent(treatment.clone());
        let wanted = match wishing {
            _ if self.config.mandatory => return has(&self.config.outputs).then(sent),
            Wishing::Nothing => return has(&self.config.outputs).then(sent),
            Wishing::Unknown => return Some(Course::Unknown),
            Wishing::This(wanted) => wanted,
        };
        let may_choose = |name: &String| self.config.selectable_outputs.contains(name);
        let chosen = wanted.outputs.as_ref().filter(|names| names.iter().any(may_choose));
        let is_here = match chosen {
            Some(names) => has(names) && has(&self.config.selectable_outputs),
            None => has(&self.config.outputs),
        };
        if !is_here {
            return None;
        }
        if wanted.exclude == Some(true) {
            return Some(Course::Excluded);
        }
        let mut config = self.config.clone();
        // Elsewhere, or in a text, a field would not be found that is to be removed or hashed.
        config.json = wanted.json.filter(|_| !config.changes_fields()).unwrap_or(config.json);
        if let Some(lines) = wanted.multiline() {
            config.multiline = lines;
        }
        if let Some(rate) = wanted.sample() {
            let by = config.sample.take();
            let rate = by.as_ref().map_or(rate, |sample| sample.rate.min(rate));
            config.sample = Some(SampleConfig { rate, by: by.and_then(|sample| sample.by) });
        }
        Some(if config == self.config {
            sent()
        } else {
            Course::Sent(self::treatment(&config, walk.key.as_ref()))
        })
    }
}

/// The one end that all walks have come to.
fn same(mut ends: Vec<Course>) -> Course {
    let Some(last) = ends.pop() else { return Course::Nowhere };
    let is_same = |end: &Course| match (end, &last) {
        (Course::Sent(one), Course::Sent(other)) => match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        },
        (Course::Sent(_), _) | (_, Course::Sent(_)) => false,
        // Not here, whoever has them instead.
        _ => true,
    };
    let is_unknown = ends.iter().any(|end| matches!(end, Course::Unknown));
    if !is_unknown && ends.iter().all(is_same) { last } else { Course::Unknown }
}

fn is_treated_alike(one: &RouteConfig, other: &RouteConfig) -> bool {
    let of = |route: &RouteConfig| RouteConfig {
        matches: MatchConfig::default(),
        outputs: Vec::new(),
        selectable_outputs: Vec::new(),
        goes_on: false,
        mandatory: false,
        ..route.clone()
    };
    of(one) == of(other)
}

/// What a route does with records; `None` if that is nothing.
fn treatment(config: &RouteConfig, key: Option<&HashKey>) -> Option<Arc<Treatment>> {
    if is_treated_alike(config, &RouteConfig::everything("")) {
        return None;
    }
    let RouteConfig { multiline, keep, drop, sample, json, parse, time, .. } = config;
    Some(Arc::new(Treatment {
        own: false,
        multiline: multiline.as_ref().and_then(Lines::compile),
        keep: keep.as_ref().map(|conditions| conditions.compile()),
        drop: drop.as_ref().map(|conditions| conditions.compile()),
        sample: sample.as_ref().map(|sample| Sample::new(sample.rate, sample.by.clone())),
        as_text: *json == Json::Text,
        merge: (*json == Json::Merge).then(|| config.taken()),
        parser: parse.as_ref().and_then(Parse::compile),
        redactor: redactor(config, key),
        shape: config.shape(key),
        stamp: time.as_ref().and_then(TimeConfig::compile),
        given: config.given(),
    }))
}

fn redactor(config: &RouteConfig, key: Option<&HashKey>) -> Option<Redactor> {
    let key = key.filter(|_| config.hashes_what_it_redacts()).cloned();
    match routes::redactor(&config.redact, key) {
        Ok(redactor) => redactor,
        // It was made once when the configuration was read.
        Err(error) => unreachable!("redactions that were checked do not compile: {error}"),
    }
}

fn matched(matches: &MatchConfig, facts: &NodeFacts, origin: &Origin, extent: Extent<'_>) -> Match {
    let (namespace, pod, container) = origin.place();
    let path = match origin {
        Origin::Container(_) => None,
        Origin::Host(host) => Some(host.path.to_string_lossy()),
    };
    let holds = |globs: &Option<Globs>, value: Option<&str>| globs.as_ref().is_none_or(|g| g.matches(value));
    let by_path = holds(&matches.namespace, Some(namespace))
        && holds(&matches.pod, Some(pod))
        && holds(&matches.container, Some(&container))
        && holds(&matches.node, Some(&facts.node))
        && holds(&matches.source, Some(origin.source()))
        && holds(&matches.file, path.as_deref());
    if !by_path {
        return Match::No;
    }
    if !matches.needs_metadata() {
        return Match::Yes;
    }
    match (origin, extent) {
        (Origin::Container(_), Extent::Missing) => Match::Maybe,
        (Origin::Container(_), Extent::Known(_, known)) => by_pod(matches, &known.pod, &container),
        // Nobody is asked for more than the path says, or there is nothing more to be known.
        _ => {
            let labels = origin.labels();
            let label = |key: &String| labels.get(key).map(String::as_str);
            Match::of(
                holds(&matches.image, None)
                    && holds(&matches.workload, None)
                    && matches.labels.iter().all(|(key, globs)| globs.matches(label(key)))
                    && matches.annotations.values().all(|globs| globs.matches(None)),
            )
        }
    }
}

fn by_pod(matches: &MatchConfig, pod: &PodFacts, container: &str) -> Match {
    let text = |value: Option<&String>, globs: &Globs| Match::of(globs.matches(value.map(String::as_str)));
    let image = matches.image.as_ref().map(|globs| match pod.containers.get(container) {
        Some(known) => Match::of(globs.matches(Some(&known.image))),
        // The pod is known as it was before it had this container.
        None => Match::Maybe,
    });
    let owners: Vec<String> =
        pod.owners.iter().map(|(kind, name)| format!("{}/{name}", kind.field())).collect();
    let workload = matches.workload.as_ref().map(|globs| Match::of(globs.matches_some(&owners)));
    let labels = matches.labels.iter().map(|(key, globs)| text(pod.labels.get(key), globs));
    let annotations = matches.annotations.iter().map(|(key, globs)| {
        // What an earlier configuration did not want was not kept.
        if pod.asked.contains(key) { text(pod.annotations.get(key), globs) } else { Match::Maybe }
    });
    let all: Vec<Match> = image.into_iter().chain(workload).chain(labels).chain(annotations).collect();
    if all.contains(&Match::No) {
        Match::No
    } else if all.contains(&Match::Maybe) {
        Match::Maybe
    } else {
        Match::Yes
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
