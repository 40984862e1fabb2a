//! What the long runs are started with: a seed, a length, and flags of their own.

use std::time::Duration;

/// How a run is drawn.
#[derive(Debug)]
pub struct Arguments {
    /// What all is drawn from; a new one if it is not given.
    pub seed: u64,
    /// How long things happen.
    pub length: Duration,
    /// Print what would happen when, and do nothing.
    pub only_schedule: bool,
    /// Which of the flags were given.
    pub flags: Vec<&'static str>,
}

impl Arguments {
    /// Those of this process: `--seed N`, `--minutes M` (else `length`), `--schedule`, and these `flags`; none if there are others.
    pub fn read(length: Duration, flags: &[&'static str]) -> Option<Arguments> {
        let seed = fastrand::u64(..1 << 32);
        let mut read = Arguments { seed, length, only_schedule: false, flags: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next()?.parse::<f64>().ok().filter(|number| *number >= 0.0);
            match argument.as_str() {
                "--seed" => read.seed = number()? as u64,
                "--minutes" => read.length = Duration::from_secs_f64(number()? * 60.0),
                "--schedule" => read.only_schedule = true,
                other => read.flags.push(flags.iter().find(|flag| **flag == other)?),
            }
        }
        Some(read)
    }
}
