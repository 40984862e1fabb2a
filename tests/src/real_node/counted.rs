//! How often each numbered line is there.
//!
//! What comes in: messages, of documents or of log files. What goes out: the numbers of each life of each writer (see
//! `servers/node/play`). Lines that a kill has cut short, and those of others, are passed over.

use std::collections::BTreeMap;
use std::fmt;

use super::pods::LINE;
use crate::verify::Document;

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct Counted {
    /// By life, as `NAME@LIFE`: how often each number is there.
    pub lives: BTreeMap<String, BTreeMap<u64, u32>>,
}

/// What tells two counts apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Lines that were written.
    pub written: u64,
    /// How many different ones of them were delivered.
    pub delivered: u64,
    /// How many of them were not.
    pub missing: u64,
    /// How many came more than once, and how often: two for a line that is there three times.
    pub doubled: u64,
    /// Lines that were delivered, and never written.
    pub invented: u64,
    /// Whose lines are missing: life, first and last number, how many.
    pub of: Vec<(String, u64, u64, usize)>,
}

impl Counted {
    /// Those of documents.
    pub fn of(documents: &[Document]) -> Counted {
        let mut counted = Counted::default();
        documents.iter().for_each(|document| counted.add(document.text("message")));
        counted
    }

    /// Counts a line.
    pub fn add(&mut self, message: &str) {
        let mut words = message.split(' ');
        let (Some(life), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else { return };
        if message.len() == LINE && life.contains('@') {
            *self.lives.entry(life.to_owned()).or_default().entry(number).or_default() += 1;
        }
    }

    /// The numbers of each life of a writer.
    pub fn of_writer(&self, name: &str) -> impl Iterator<Item = &BTreeMap<u64, u32>> {
        let is_of = move |life: &&String| life.split('@').next() == Some(name);
        self.lives.iter().filter(move |(life, _)| is_of(life)).map(|(_, numbers)| numbers)
    }

    /// How many lines came more than once, and how often.
    pub fn doubled(&self) -> u64 {
        self.lives.values().flat_map(BTreeMap::values).map(|times| u64::from(times - 1)).sum()
    }

    /// How many different lines there are.
    pub fn lines(&self) -> u64 {
        self.lives.values().map(|numbers| numbers.len() as u64).sum()
    }

    /// How what was delivered differs from this, which was written.
    pub fn against(&self, delivered: &Counted) -> Difference {
        let nothing = BTreeMap::new();
        let mut found =
            Difference { doubled: delivered.doubled(), written: self.lines(), ..Difference::default() };
        for (life, written) in &self.lives {
            let there = delivered.lives.get(life).unwrap_or(&nothing);
            let missing: Vec<u64> =
                written.keys().copied().filter(|number| !there.contains_key(number)).collect();
            if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
                found.of.push((life.clone(), *first, *last, missing.len()));
            }
            found.missing += missing.len() as u64;
            found.delivered += (written.len() - missing.len()) as u64;
        }
        found.invented = delivered.lines() - found.delivered;
        found
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (life, numbers) in &self.lives {
            let (first, last) = (numbers.keys().next(), numbers.keys().next_back());
            write!(f, "{life}: {} lines of {first:?} to {last:?}; ", numbers.len())?;
        }
        write!(f, "{} doubled", self.doubled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(lines: &[(&str, u64)]) -> Counted {
        let mut counted = Counted::default();
        for (life, number) in lines {
            counted.add(&format!("{life} {number:09} {}", "x".repeat(LINE - life.len() - 11)));
        }
        counted
    }

    #[test]
    fn what_is_missing_doubled_and_invented_is_told_apart() {
        let written = counted(&[("a@1", 1), ("a@1", 2), ("a@2", 1), ("b@1", 1)]);
        let delivered = counted(&[("a@1", 1), ("a@1", 1), ("a@2", 1), ("b@1", 1), ("c@1", 7)]);
        let found = written.against(&delivered);
        let of = vec![("a@1".to_owned(), 2, 2, 1)];
        assert_eq!(found, Difference { written: 4, delivered: 3, missing: 1, doubled: 1, invented: 1, of });
        assert_eq!(written.of_writer("a").count(), 2);
    }

    #[test]
    fn lines_that_were_cut_and_those_of_others_are_none() {
        let mut counted = Counted::default();
        for line in ["a@1 000000001 xxx", "hello 1", "", &"x".repeat(LINE)] {
            counted.add(line);
        }
        assert_eq!(counted.lines(), 0);
    }
}
