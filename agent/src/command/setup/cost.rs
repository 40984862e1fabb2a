//! What the path by CloudWatch costs, worked out from prices that are given.
//!
//! In: how much is logged a day, and prices. Out: lines to read. The defaults are list prices of us-east-1 as of 2025, as an
//! example: they differ by region and change, and nobody is asked for them.

use std::fmt::Write as _;

use clap::Args;

use crate::config::CloudWatchConfig;
use crate::config::LogClass;
use crate::config::TargetKind;

/// How much of what is stored remains of it once compressed, as AWS's price page counts it.
const STORED: f64 = 0.15;

/// Days of a month, and hours, for prices that are by the month.
const DAYS: f64 = 30.0;
const HOURS: f64 = 720.0;

/// What things cost, in any currency. The defaults are an example: list prices of us-east-1 in USD.
#[derive(Debug, Clone, Args)]
pub struct Prices {
    /// What is logged a day, in GB, as CloudWatch's metric IncomingBytes counts it: --plan then says what it costs
    #[arg(long, value_name = "GB")]
    gb_per_day: Option<f64>,
    /// A GB taken in by groups of class STANDARD (an example price; give your region's)
    #[arg(long, default_value_t = 0.50, value_name = "PRICE", help_heading = "Prices")]
    price_standard: f64,
    /// A GB taken in by groups of class INFREQUENT_ACCESS
    #[arg(long, default_value_t = 0.25, value_name = "PRICE", help_heading = "Prices")]
    price_infrequent: f64,
    /// A GB kept for a month, compressed
    #[arg(long, default_value_t = 0.03, value_name = "PRICE", help_heading = "Prices")]
    price_storage: f64,
    /// A GB through a Kinesis stream on demand, in and out
    #[arg(long, default_value_t = 0.12, value_name = "PRICE", help_heading = "Prices")]
    price_kinesis: f64,
    /// An hour of such a stream
    #[arg(long, default_value_t = 0.04, value_name = "PRICE", help_heading = "Prices")]
    price_kinesis_hour: f64,
}

impl Prices {
    /// What the groups hold, and what a month costs, if it was said how much is logged.
    pub fn show(&self, outputs: &[&CloudWatchConfig], stored: u64) -> String {
        let mut text = format!("stored in these groups now: {:.2} GB\n", stored as f64 / 1e9);
        let Some(gb) = self.gb_per_day else {
            text.push_str("say --gb-per-day N to see what a month costs\n");
            return text;
        };
        let month = gb * DAYS;
        let _ = writeln!(
            text,
            "a month at {gb} GB a day, at the prices given (examples, unless you gave yours):"
        );
        let mut total = 0.0;
        let mut line = |what: &str, cost: f64| {
            total += cost;
            let _ = writeln!(text, "  {what:<58}{cost:>12.2}");
        };
        let first = outputs.first();
        let (class, price) = match first.map(|output| output.class) {
            Some(LogClass::InfrequentAccess) => ("INFREQUENT_ACCESS", self.price_infrequent),
            _ => ("STANDARD", self.price_standard),
        };
        line(&format!("taken in, {month:.0} GB of class {class} at {price}"), month * price);
        let kept = first.and_then(|output| output.retention_days);
        let days = kept.map_or(DAYS, f64::from);
        let label = match kept {
            Some(days) => format!("kept for {days} days"),
            None => "kept for ever: the first month, and as much more each month".to_owned(),
        };
        line(&label, gb * days * STORED * self.price_storage);
        let kinesis = outputs.iter().filter_map(|output| output.subscription.as_ref());
        if kinesis.into_iter().any(|subscription| subscription.to.kind == TargetKind::Kinesis) {
            // A subscription sends it compressed.
            let through = month * STORED;
            line(
                &format!(
                    "Kinesis on demand, {through:.0} GB compressed at {}, and its hours",
                    self.price_kinesis
                ),
                through * self.price_kinesis + HOURS * self.price_kinesis_hour,
            );
        }
        let _ = writeln!(text, "  {:<58}{total:>12.2}", "in all");
        text.push_str(
            "lower it: `format = \"compact\"` takes in less than half of \"json\"; drop and sample by routes; a short\n\
             retention_days; class = \"infrequent_access\" where nothing goes on from there\n",
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_added_up_from_the_prices_that_are_given() {
        let mut prices = Prices {
            gb_per_day: Some(10.0),
            price_standard: 1.0,
            price_infrequent: 0.5,
            price_storage: 0.1,
            price_kinesis: 0.2,
            price_kinesis_hour: 0.0,
        };
        let output = CloudWatchConfig { retention_days: Some(60), ..CloudWatchConfig::default() };
        let text = prices.show(&[&output], 1_500_000_000);
        assert!(text.contains("now: 1.50 GB"), "{text}");
        // 300 taken in, and 600 GB · 0.15 · 0.1 kept.
        let found = |label: &str| text.lines().find(|line| line.contains(label)).unwrap().to_owned();
        assert!(found("taken in").ends_with(" 300.00") && found("60 days").ends_with(" 9.00"), "{text}");
        assert!(found("in all").ends_with(" 309.00"), "{text}");
        prices.gb_per_day = None;
        assert!(prices.show(&[&output], 0).contains("--gb-per-day"));
    }
}
