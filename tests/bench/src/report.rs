//! Numbers into a table.
//!
//! In: the measurements of repeated runs. Out: Markdown on standard output, medians with the spread, ready to be
//! put into a document with the command that made it. It never judges whether a number is good.

use std::fmt::Write;

/// The measurements of one quantity over repetitions.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds the measurement of one more run.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one, or the mean of the middle two; 0 without any.
    pub fn median(&self) -> f64 {
        match self.0.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => self.0[odd / 2],
            even => (self.0[even / 2 - 1] + self.0[even / 2]) / 2.0,
        }
    }

    /// The lowest and the highest; noughts without any.
    pub fn range(&self) -> (f64, f64) {
        (self.0.first().copied().unwrap_or(0.0), self.0.last().copied().unwrap_or(0.0))
    }

    /// `median`, or `median (lowest–highest)` for several runs, with `decimals` and thousands apart.
    pub fn show(&self, decimals: usize) -> String {
        let median = number(self.median(), decimals);
        match (self.0.first(), self.0.last()) {
            (Some(low), Some(high)) if self.0.len() > 1 => {
                format!("{median} ({}–{})", number(*low, decimals), number(*high, decimals))
            }
            _ => median,
        }
    }
}

/// `value` with `decimals` and a comma at each thousand.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    if value < 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        out.push('-');
    }
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

/// A Markdown table: the first column to the left, the numbers to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out =
        format!("| {} |\n| --- |{}\n", head.join(" | "), " ---: |".repeat(head.len().saturating_sub(1)));
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

/// The command line of this run, as it is typed in the repository.
pub fn command_line() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo run --release -p taffrail-bench -- {}", arguments.join(" "))
}

/// The processor and the number of cores, for the line below a table.
pub fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{}, {cores} cores", model.trim_start_matches([' ', '\t', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_spread() {
        let mut samples = Samples::default();
        assert_eq!(samples.show(0), "0");
        samples.push(1234567.0);
        assert_eq!(samples.show(0), "1,234,567");
        samples.push(1.0);
        samples.push(1000.0);
        assert_eq!(samples.show(0), "1,000 (1–1,234,567)");
        samples.push(2000.0);
        assert_eq!(samples.median(), 1500.0);
    }

    #[test]
    fn numbers_are_grouped() {
        let cases =
            [(0.0, "0.0"), (999.94, "999.9"), (1000.0, "1,000.0"), (-1234.5, "-1,234.5"), (-0.01, "0.0")];
        for (value, text) in cases {
            assert_eq!(number(value, 1), text);
        }
    }

    #[test]
    fn a_table_is_markdown() {
        let text = table(&["a", "b"], &[vec!["x".into(), "1".into()]]);
        assert_eq!(text, "| a | b |\n| --- | ---: |\n| x | 1 |\n");
    }
}
