//! Enriching: plans that follow what is known of pods, and containers that wait for it.
//!
//! In: the table of what is known, asked by its revision. Out: for each container a plan of the newest of it, made between
//! turns and never within one. A container of which something is missing waits for it, alone: a while, or, where it
//! decides where records go or what is done with them, for as long as it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Reading, Settings, Worker};
use crate::catalog::origin::Origin;
use crate::clock::FOR_EVER;
use crate::config::Wish;
use crate::metadata::Extent;
use crate::metadata::facts::Known;
use crate::metadata::table::{Claim, Table};
use crate::route::{Course, Plan};
use crate::stats::OutputStats;
use crate::stats::volume::Labels;

/// Whether a container's records wait for what is not known of its pod yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// They do not.
    No,
    /// Until then, at most.
    Until(Instant),
    /// Since then, until it is known: where they go depends on it.
    ForIt(Instant),
}

impl Waits {
    pub(super) fn is_waiting(self) -> bool {
        self != Waits::No
    }

    /// Until when they wait.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Waits::No => None,
            Waits::Until(until) => Some(until),
            Waits::ForIt(since) => Some(since + FOR_EVER),
        }
    }

    /// A wait that has come to its end is over for good.
    pub(super) fn end_at(&mut self, now: Instant) {
        if matches!(self, Waits::Until(until) if *until <= now) {
            *self = Waits::No;
        }
    }
}

/// What a container begins with.
pub(super) struct Enriched {
    pub course: Course,
    pub plan: Plan,
    pub claim: Option<Claim>,
    pub known: Option<Arc<Known>>,
    pub waits: Waits,
}

/// What is known of a container that is about to be read.
pub(super) fn enrich(settings: &Settings, origin: &Origin) -> Enriched {
    let (Some(table), Origin::Container(container)) = (&settings.table, origin) else {
        let (course, plan) = decide(settings, origin, Extent::Path);
        return Enriched { course, plan, claim: None, known: None, waits: Waits::No };
    };
    let claim = table.claim(container);
    let known = table.find(&claim);
    let now = Instant::now();
    let extent = known.as_deref().map_or(Extent::Missing, |known| Extent::Known(table.config(), known));
    let (course, plan) = decide(settings, origin, extent);
    let waits = match &known {
        _ if matches!(course, Course::Unknown) => Waits::ForIt(now),
        _ if !course.is_here() => Waits::No,
        Some(known) if table.is_partial(known, &container.name) => until(now, table),
        Some(_) => Waits::No,
        None if is_decisive(settings) => Waits::ForIt(now),
        None => until(now, table),
    };
    Enriched { course, plan, claim: Some(claim), known, waits }
}

/// What the routes say of a container of which so much is known.
fn decide(settings: &Settings, origin: &Origin, extent: Extent<'_>) -> (Course, Plan) {
    let (course, route) = settings.routes.explained(&settings.facts, origin, extent);
    let plan = match &course {
        Course::Sent(treatment) => {
            let target = settings.target.as_ref().map(|(template, safe)| (template, *safe));
            Plan::new(&settings.facts, origin, extent, target).treating(treatment.clone()).by(route)
        }
        Course::Elsewhere | Course::Excluded | Course::Nowhere | Course::Unknown => Plan::none(origin),
    };
    (course, plan)
}

/// What is wished for a container and not followed here: told by the routes for it.
pub(super) fn suppressed(settings: &Settings, origin: &Origin, known: Option<&Known>) -> Vec<Wish> {
    let (Some(table), Some(known)) = (&settings.table, known) else { return Vec::new() };
    settings.routes.suppressed(&settings.facts, origin, Extent::Known(table.config(), known))
}

/// The labels that documents bear as fields of their own.
pub(super) fn labels(table: &Table, known: &Known) -> Labels {
    let fields = table.config().label_fields();
    fields.filter_map(|(key, field)| Some((field, known.pod.labels.get(key)?.clone()))).collect()
}

/// Whether where a container's records go depends on what is known of its pod.
fn is_decisive(settings: &Settings) -> bool {
    settings
        .target
        .as_ref()
        .is_some_and(|(template, _)| template.labels().next().is_some() || template.has_container_id())
}

fn until(now: Instant, table: &Table) -> Waits {
    let wait = table.config().wait;
    if wait.is_zero() { Waits::No } else { Waits::Until(now + wait) }
}

impl Reading {
    /// Whether a run has to wait until it is heard of, since where its records go depends on it: a while, as a container
    /// whose pod is not known whole. It runs already, so the API server is about to be told.
    pub(super) fn awaits_run(&mut self, settings: &Settings, restart: u32) -> bool {
        let Some(table) = settings.table.as_ref().filter(|_| self.plan.lacks_run(restart)) else {
            return false;
        };
        let now = Instant::now();
        let until = match self.awaited_run {
            Some((run, until)) if run == restart => until,
            _ => now + table.config().wait,
        };
        self.awaited_run = Some((restart, until));
        let waits = until > now;
        if waits {
            self.waits = Waits::Until(until);
        }
        waits
    }

    /// Whether its records are sent here, or may be.
    pub(super) fn is_here(&self) -> bool {
        self.course.is_here()
    }

    /// Takes up what is known now; true if it is something new.
    fn learn(&mut self, settings: &Settings, table: &Table, output: &OutputStats) -> bool {
        let Some(known) = self.claim.as_ref().and_then(|claim| table.find(claim)) else { return false };
        if self.known.as_ref().is_some_and(|before| Arc::ptr_eq(before, &known)) {
            return false;
        }
        let origin = &self.stats.origin;
        (self.course, self.plan) = decide(settings, origin, Extent::Known(table.config(), &known));
        self.stats.set_plan(self.plan.in_words());
        self.stats.set_labels(labels(table, &known));
        let suppressed = suppressed(settings, origin, Some(&known));
        let before = std::mem::replace(&mut self.suppressed, suppressed);
        let fresh = self.suppressed.iter().filter(|wish| !before.contains(wish));
        fresh.for_each(|wish| output.suppressed[*wish as usize].add(1));
        if matches!(self.course, Course::Unknown) {
            if !matches!(self.waits, Waits::ForIt(_)) {
                self.waits = Waits::ForIt(Instant::now());
            }
        } else if !self.course.is_here() {
            self.waits = Waits::No;
        } else if self.waits.is_waiting() {
            let (_, _, container) = origin.place();
            self.waits = match (table.is_partial(&known, &container), self.waits) {
                (false, _) => Waits::No,
                (true, Waits::ForIt(_)) => until(Instant::now(), table),
                (true, waits) => waits,
            };
        }
        self.known = Some(known);
        true
    }
}

impl Worker {
    /// Takes up what has changed of what is known. Costs one load where nothing has.
    pub(super) fn follow_metadata(&mut self) {
        let Some(table) = &self.settings.table else { return };
        let revision = table.revision();
        if std::mem::replace(&mut self.revision, revision) == revision {
            return;
        }
        let table = table.clone();
        for place in 0..self.containers.len() {
            let reading = &mut self.containers[place];
            let before = reading.is_here();
            if !reading.learn(&self.settings, &table, &self.stats) {
                continue;
            }
            match (before, reading.is_here()) {
                (true, false) => self.give_away(place),
                (false, true) => self.take_over(place),
                _ => {}
            }
        }
    }

    /// Counts who waits, and says once that somebody waits for long.
    pub(super) fn tell_waiting(&mut self) {
        let Some(table) = &self.settings.table else { return };
        let now = Instant::now();
        for reading in &self.containers {
            reading.stats.waits_metadata.set(reading.waits.is_waiting().into());
        }
        let waiting = self.containers.iter().filter(|c| c.waits.is_waiting()).count();
        let patience = table.config().wait.max(Duration::from_secs(1));
        let long = |waits| matches!(waits, Waits::ForIt(since) if now.duration_since(since) >= patience);
        match self.containers.iter().find(|c| long(c.waits)) {
            Some(reading) if !std::mem::replace(&mut self.waiting_told, true) => tracing::warn!(
                output = self.settings.output,
                container = reading.plan.label,
                waiting,
                "containers wait for the labels of their pods, on which it depends where their records go and in what form; \
                 others go on"
            ),
            None if waiting == 0 => self.waiting_told = false,
            _ => {}
        }
    }
}
