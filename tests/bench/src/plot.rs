//! A plot of bars as an SVG.
//!
//! In: names and the measurements of repeated runs. Out: the text of an SVG that reads well on a light and on a dark page: a bar
//! to the median, a whisker from the lowest to the highest, the number beside it.

use crate::report::{Samples, number};
use std::fmt::Write;

/// One bar.
pub struct Bar<'a> {
    /// What is measured.
    pub name: &'a str,
    /// What is to be known of it.
    pub note: &'a str,
    /// Whether it has the colour of ours.
    pub ours: bool,
    /// How long it is.
    pub samples: &'a Samples,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 230.0;
/// Room for the number behind the longest bar.
const RIGHT: f64 = 90.0;
const TOP: f64 = 44.0;
const ROW: f64 = 40.0;

// Colours that stand out from white and from near black; texts take the page's own.
const STYLE: &str = "<style>\
    text { font: 13px system-ui, sans-serif; fill: #24292f } .note { font-size: 11px; fill: #57606a } .title { font-weight: 600 }\
    .ours { fill: #0f8b8d } .other { fill: #9a8c98 } .spread { stroke: #24292f; stroke-width: 1.5; fill: none }\
    @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } .spread { stroke: #e6edf3 } }\
    </style>";

/// The SVG.
pub fn bars(title: &str, bars: &[Bar<'_>]) -> String {
    let longest = bars.iter().map(|bar| bar.samples.range().1).fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let height = TOP + ROW * bars.len() as f64 + 8.0;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">{STYLE}\n\
         <title>{title}</title>\n<text class=\"title\" x=\"8\" y=\"24\">{title}</text>",
        title = escaped(title)
    );
    for (place, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * place as f64;
        let middle = top + 14.0;
        let median = bar.samples.median();
        let (low, high) = bar.samples.range();
        let class = if bar.ours { "ours" } else { "other" };
        let end = LEFT + median * scale;
        let (low, high) = (LEFT + low * scale, LEFT + high * scale);
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{:.1}\">{}</text><text class=\"note\" x=\"8\" y=\"{:.1}\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"28\" rx=\"2\"/>\n\
             <path class=\"spread\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {a:.1}v8M{high:.1} {a:.1}v8\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            top + 12.0,
            escaped(bar.name),
            top + 26.0,
            escaped(bar.note),
            median * scale,
            end.max(high) + 8.0,
            middle + 5.0,
            number(median, 0),
            a = middle - 4.0,
        );
    }
    out + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_ends_at_its_median_and_names_are_escaped() {
        let samples = |values: &[f64]| {
            let mut samples = Samples::default();
            values.iter().for_each(|value| samples.push(*value));
            samples
        };
        let (long, short) = (samples(&[900.0, 1000.0, 950.0]), samples(&[100.0]));
        let bar = |name, ours, samples| Bar { name, note: "n", ours, samples };
        let text = bars("a < b", &[bar("<ours>", true, &long), bar("theirs", false, &short)]);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        assert!(
            text.contains("a &lt; b") && text.contains("&lt;ours&gt;") && !text.contains("<ours>"),
            "{text}"
        );
        // 540 units are 1,000.
        assert!(text.contains("class=\"ours\" x=\"230\" y=\"44.0\" width=\"513.0\""), "{text}");
        assert!(text.contains("class=\"other\" x=\"230\" y=\"84.0\" width=\"54.0\""), "{text}");
        assert!(text.contains("M716.0 58.0H770.0"), "{text}");
    }
}
