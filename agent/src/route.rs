//! Routing: what an output does with a container's records, worked out once per container and revision of what is known
//! of its pod.
//!
//! In: a container, what is known of it, and an output's configuration. Out: the [`Course`] that the routes give it, and a
//! [`Plan`]: where its records go, what is done with each on the way, and the bytes that end each of its documents. Never
//! evaluated per record.

mod walk;

use std::sync::Arc;

use crate::catalog::origin::Origin;
use crate::config::template::{Names, Prepared, Safe, Template};
use crate::metadata::facts::Run;
use crate::metadata::{Extent, NodeFacts, encode};
use crate::record::Stream;
use crate::record::multiline::Multiline;
use crate::record::treatment::Treatment;
pub use walk::{Course, Routes, Verdict, verdicts};

/// How an output treats the records of one container.
#[derive(Debug)]
pub struct Plan {
    /// The index, data stream or file, but for the date in its name.
    pub target: Option<Prepared>,
    /// `namespace/pod/container`, or a path, for people.
    pub label: String,
    /// The route that sends its records, in words, where there is one.
    route: Option<String>,
    treatment: Option<Arc<Treatment>>,
    /// Whether it does anything with a record, and not only with lines.
    treats_records: bool,
    fields: Vec<u8>,
    /// What is said of each run of the container that has been heard of, by the number in its files' names.
    runs: Vec<(u32, RunPlan)>,
    /// And of any other.
    other_run: Vec<u8>,
    /// Whether each run has a target of its own.
    by_run: bool,
}

/// What is the same for one run of the container.
#[derive(Debug)]
struct RunPlan {
    fields: Vec<u8>,
    /// Where its records go, if that is not the same for all runs.
    target: Option<Prepared>,
}

/// A plan for the records of one file: of one run of the container.
#[derive(Debug, Clone, Copy)]
pub struct FilePlan<'a> {
    plan: &'a Plan,
    run: &'a [u8],
    target: Option<&'a Prepared>,
}

impl Plan {
    /// The plan for what no record is sent of, or not yet.
    pub fn none(origin: &Origin) -> Plan {
        Plan {
            target: None,
            label: origin.to_string(),
            route: None,
            treatment: None,
            treats_records: false,
            fields: Vec::new(),
            runs: Vec::new(),
            other_run: Vec::new(),
            by_run: false,
        }
    }

    /// Where its records go, in words: for the status, not for records.
    pub fn in_words(&self) -> String {
        let target = self.target.as_ref().map(|target| match target.split_at_date() {
            (before, Some(behind)) => format!("{before}{{date}}{behind}"),
            (before, None) => before.to_owned(),
        });
        let way = match (&self.route, &self.treatment) {
            (Some(route), Some(_)) => format!(" by {route}, which shapes it"),
            (Some(route), None) => format!(" by {route}"),
            (None, Some(_)) => ", shaped".to_owned(),
            (None, None) => String::new(),
        };
        match target {
            Some(target) => format!("to {target}{way}"),
            None if self.fields.is_empty() => "not sent, or not yet".to_owned(),
            None => format!("sent{way}"),
        }
    }

    /// The same plan, of a route that does this with records.
    pub fn treating(self, treatment: Option<Arc<Treatment>>) -> Plan {
        let treats_records = treatment.as_ref().is_some_and(|treatment| treatment.is_of_records());
        Plan { treatment, treats_records, ..self }
    }

    /// The same plan, by the route that these words name.
    pub fn by(self, route: Option<String>) -> Plan {
        Plan { route, ..self }
    }

    /// The plan for `origin`; `target` names where its records go, made safe for that kind of place.
    pub fn new(
        facts: &NodeFacts,
        origin: &Origin,
        extent: Extent<'_>,
        target: Option<(&Template, Safe)>,
    ) -> Plan {
        let (namespace, pod, container) = origin.names();
        let labels = match extent {
            Extent::Known(_, known) => &known.pod.labels,
            Extent::Path | Extent::Missing => origin.labels(),
        };
        let names = Names {
            cluster: &facts.cluster,
            namespace,
            pod,
            container: &container,
            container_id: "",
            node: &facts.node,
            uid: origin.uid(),
            labels,
            source: origin.source(),
        };
        let mut plan = Plan {
            target: target.map(|(template, safe)| template.prepare(names, safe)),
            fields: encode::fields(facts, origin, extent),
            other_run: encode::unknown_run(facts, origin),
            // Of a host file it is known that it has none.
            by_run: matches!(origin, Origin::Container(_))
                && target.is_some_and(|(template, _)| template.has_container_id()),
            ..Plan::none(origin)
        };
        if let Extent::Known(config, known) = extent
            && let Some(known) = known.pod.containers.get(&container)
        {
            let encoded = |run: Option<&Run>| encode::run(facts, run, &known.image, config);
            let run = |run: &Run| {
                let names = Names { container_id: &run.id, ..names };
                let own =
                    target.filter(|_| plan.by_run).map(|(template, safe)| template.prepare(names, safe));
                RunPlan { fields: encoded(Some(run)), target: own }
            };
            plan.runs = known.runs.iter().map(|known| (known.restart, run(known))).collect();
            plan.other_run = encoded(None);
        }
        plan.fields.extend_from_slice(b"}\n");
        plan.fields.shrink_to_fit();
        plan
    }

    /// How lines are joined, if they are.
    pub fn multiline(&self) -> Option<&Multiline> {
        self.treatment.as_ref()?.multiline.as_ref()
    }

    /// The plan for the files of one run.
    pub fn of_run(&self, restart: u32) -> FilePlan<'_> {
        let run = self.runs.iter().find(|(number, _)| *number == restart).map(|(_, run)| run);
        FilePlan {
            plan: self,
            run: run.map_or(&self.other_run, |run| &run.fields),
            target: run.and_then(|run| run.target.as_ref()).or(self.target.as_ref()),
        }
    }

    /// Whether where the records of a run go depends on what is not known of it.
    pub fn lacks_run(&self, restart: u32) -> bool {
        self.by_run && !self.runs.iter().any(|(number, _)| *number == restart)
    }
}

impl<'a> FilePlan<'a> {
    /// Where records go.
    pub fn target(self) -> Option<&'a Prepared> {
        self.target
    }

    /// What is done with its records, if anything is.
    #[inline]
    pub fn treatment(self) -> Option<&'a Treatment> {
        self.plan.treatment.as_deref().filter(|_| self.plan.treats_records)
    }

    /// `namespace/pod/container`, or a path, for people.
    pub fn label(self) -> &'a str {
        &self.plan.label
    }

    /// Whether these bytes are the end of a document that is of no stream.
    pub fn is_tail(self, bytes: &[u8]) -> bool {
        let rest = bytes.strip_prefix(b",").and_then(|rest| rest.strip_prefix(self.run));
        rest == Some(&*self.plan.fields)
    }

    /// The constant end of a document: from the comma before the stream to the newline. It stands last and contiguous,
    /// so that compression finds it as one repeat.
    pub fn append_tail(self, out: &mut Vec<u8>, stream: Option<Stream>) {
        out.extend_from_slice(match stream {
            Some(Stream::Stdout) => br#","stream":"stdout","#,
            Some(Stream::Stderr) => br#","stream":"stderr","#,
            None => b",",
        });
        out.extend_from_slice(self.run);
        out.extend_from_slice(&self.plan.fields);
    }
}
