//! What is to be done: shown, asked for, carried out.
//!
//! In: steps, each with what it would make, change, leave or remove, and the deeds that do so. Out: what was done, and the
//! process's exit code. It knows nothing of any service: a deed is carried out by whoever is given for it.

use std::fmt;
use std::process::ExitCode;

use super::{NOT_DONE, Options};
use crate::command::progress::Progress;
use crate::command::terminal::agreed;

/// What a step does to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is not there.
    Create,
    /// It is there, and differs.
    Change,
    /// It is as it should be.
    Same,
    /// It was made by us and goes.
    Remove,
    /// It is somebody else's, or cannot be changed: it is told.
    Left,
    /// It is as nobody wants it, and cannot be changed by us.
    Wrong,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sign::Create => "+",
            Sign::Change => "~",
            Sign::Same => "=",
            Sign::Remove => "-",
            Sign::Left => " ",
            Sign::Wrong => "!",
        })
    }
}

/// One thing.
#[derive(Debug)]
pub struct Step<D> {
    sign: Sign,
    what: String,
    details: Vec<String>,
    deeds: Vec<D>,
    only_if_well: bool,
}

impl<D> Step<D> {
    /// A thing, and nothing to be done about it yet.
    pub fn new(sign: Sign, what: impl Into<String>) -> Step<D> {
        Step { sign, what: what.into(), details: Vec::new(), deeds: Vec::new(), only_if_well: false }
    }

    /// With a line below it.
    pub fn detail(mut self, line: impl Into<String>) -> Step<D> {
        self.details.push(line.into());
        self
    }

    /// With what it takes.
    pub fn deed(mut self, deed: D) -> Step<D> {
        self.deeds.push(deed);
        self
    }

    /// To be left undone if a step before it failed: what that step should have taken away may still need this.
    pub fn only_if_well(mut self) -> Step<D> {
        self.only_if_well = true;
        self
    }

    /// Turns what was as it should be into a change.
    pub fn change(mut self, line: impl Into<String>, deed: D) -> Step<D> {
        if self.sign == Sign::Same {
            self.sign = Sign::Change;
        }
        self.detail(line).deed(deed)
    }

    /// Nobody can make it so.
    pub fn wrong(mut self, line: impl Into<String>) -> Step<D> {
        self.sign = Sign::Wrong;
        self.detail(line)
    }
}

/// All steps, in the order in which they are done.
#[derive(Debug)]
pub struct Plan<D> {
    steps: Vec<Step<D>>,
}

impl<D> Plan<D> {
    /// Nothing.
    pub fn new() -> Plan<D> {
        Plan { steps: Vec::new() }
    }

    /// One more; a thing that two outputs share is one thing.
    pub fn add(&mut self, step: Step<D>) {
        if !self.steps.iter().any(|known| known.what == step.what && known.details == step.details) {
            self.steps.push(step);
        }
    }

    fn count(&self, sign: Sign) -> usize {
        self.steps.iter().filter(|step| step.sign == sign).count()
    }

    /// What it would do, to read.
    fn show(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            text.push_str(&format!("{} {}\n", step.sign, step.what));
            step.details.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        let counts = [
            (Sign::Create, "to create"),
            (Sign::Change, "to change"),
            (Sign::Remove, "to remove"),
            (Sign::Same, "as it should be"),
            (Sign::Wrong, "that cannot be put right"),
        ];
        let counts: Vec<String> = counts
            .into_iter()
            .map(|(sign, words)| (self.count(sign), words))
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| format!("{count} {words}"))
            .collect();
        let counts = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
        text.push_str(&format!("plan: {counts}\n"));
        text
    }

    /// Does it without a word but to the log, by `act`. What cannot be put right is told there.
    ///
    /// # Errors
    /// Something went wrong; the rest is done.
    pub async fn carry_out_quietly(
        self,
        mut act: impl AsyncFnMut(&D, &Progress) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut failed = Vec::new();
        for step in &self.steps {
            if step.sign == Sign::Wrong {
                tracing::warn!("set up: {}: {}", step.what, step.details.join(", "));
            }
            for deed in &step.deeds {
                match act(deed, &Progress::none()).await {
                    Ok(()) => tracing::info!("set up: {} {}", step.sign, step.what),
                    Err(error) => failed.push(format!("{}: {error}", step.what)),
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// Shows it, asks, and does it by `act`, which says what it waits for, and what went wrong. Exit code 0: all is as it should be, or would be.
    pub async fn carry_out(
        self,
        options: Options,
        mut act: impl AsyncFnMut(&D, &Progress) -> Result<(), String>,
    ) -> ExitCode {
        print!("{}", self.show());
        let code = if self.count(Sign::Wrong) > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        if options.plan || self.steps.iter().all(|step| step.deeds.is_empty()) {
            return code;
        }
        if !options.yes && !agreed("Do it?") {
            eprintln!("nothing was changed; say --yes to do it");
            return ExitCode::from(NOT_DONE);
        }
        let (mut done, mut failed) = (0, 0);
        let to_do: Vec<&Step<D>> = self.steps.iter().filter(|step| !step.deeds.is_empty()).collect();
        let progress = Progress::of_steps(to_do.len());
        for (number, step) in to_do.into_iter().enumerate() {
            progress.reaches(number as u64);
            let name = format!("{} {}", step.sign, step.what);
            if step.only_if_well && failed > 0 {
                progress.above(|| eprintln!("left: {}, because a step before it failed", step.what));
                continue;
            }
            let mut result = Ok(());
            for deed in &step.deeds {
                progress.says(&name);
                result = act(deed, &progress).await;
                if result.is_err() {
                    break;
                }
            }
            match result {
                Ok(()) => done += 1,
                // Others may go well: what has gone well is not done again the next time.
                Err(error) => {
                    failed += 1;
                    progress.above(|| eprintln!("error: {name}: {error}"));
                }
            }
        }
        progress.ends();
        println!("done: {done} of {}", done + failed);
        if failed > 0 { ExitCode::FAILURE } else { code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_failed_step_may_still_need_is_left() {
        let mut plan = Plan::new();
        plan.add(Step::new(Sign::Remove, "filter f").deed("filter"));
        plan.add(Step::new(Sign::Remove, "filter g").deed("other"));
        plan.add(Step::new(Sign::Remove, "role r").deed("role").only_if_well());
        let options = Options { plan: false, yes: true, remove: true };
        let mut tried = Vec::new();
        let act = async |deed: &&'static str, _: &Progress| {
            tried.push(*deed);
            if *deed == "filter" { Err("denied".to_owned()) } else { Ok(()) }
        };
        plan.carry_out(options, act).await;
        assert_eq!(tried, ["filter", "other"]);
    }

    #[test]
    fn a_plan_reads_like_what_it_does() {
        let mut plan = Plan::<()>::new();
        plan.add(Step::new(Sign::Create, "log group /a").detail("retention_days 30").deed(()));
        plan.add(Step::new(Sign::Same, "role r").change("trust policy", ()));
        plan.add(Step::new(Sign::Same, "filter f"));
        plan.add(Step::new(Sign::Same, "filter f"));
        plan.add(Step::new(Sign::Left, "filter other: not ours"));
        let expected = "+ log group /a\n    retention_days 30\n~ role r\n    trust policy\n= filter f\n  filter other: not ours\n\
                        plan: 1 to create, 1 to change, 1 as it should be\n";
        assert_eq!(plan.show(), expected);
        assert_eq!(Plan::<()>::new().show(), "plan: nothing\n");
    }
}
