//! The live view: a table on a terminal, a line now and then elsewhere. Comes in: a snapshot of the world and
//! of the agent's progress. Goes out: text on stdout. It never decides anything, and leaves the terminal as
//! it was, whatever happens.
//!
//! The table is drawn on the terminal's alternate screen: an inline one is torn when the window is narrowed,
//! because the terminal wraps what was drawn. What is worth keeping is printed after it. The keyboard is left
//! alone, so that ctrl-C remains the signal that it is everywhere.

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Gauge, Row, Table};

use crate::command::terminal::{Guard, Live, counted, grouped, printable, say, size};

/// Time between two lines where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(4);

/// Everything that one redraw shows.
#[derive(Debug, Default)]
pub struct View {
    /// What is going on, in a few words.
    pub phase: &'static str,
    /// Time since the start of writing.
    pub elapsed: Duration,
    /// Time that the pods have written so far.
    pub written_for: Duration,
    /// Time that the pods write.
    pub duration: Duration,
    /// One for each container that has started.
    pub rows: Vec<ContainerRow>,
    /// Rotations and restarts so far.
    pub rotations: u64,
    /// Containers started anew so far.
    pub restarts: u64,
    /// Requests or writes that were tried again.
    pub retries: u64,
    /// Records that the destination refused.
    pub refused: u64,
    /// The output's last error, if it had one.
    pub last_error: Option<String>,
}

/// One container of the view.
#[derive(Debug, Default)]
pub struct ContainerRow {
    /// Namespace and pod.
    pub pod: String,
    /// Container.
    pub container: &'static str,
    /// Records written.
    pub lines: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes that the output has not yet delivered.
    pub lag: u64,
    /// Records delivered.
    pub delivered: u64,
}

impl View {
    fn sum(&self, of: fn(&ContainerRow) -> u64) -> u64 {
        self.rows.iter().map(of).sum()
    }

    /// The totals in one line.
    fn totals(&self) -> String {
        let lines = self.sum(|row| row.lines);
        let rate = lines as f64 / self.written_for.as_secs_f64().max(0.001);
        let mut text = format!(
            "{} lines ({}/s), {} · {} delivered · lag {} · {} · {}",
            grouped(lines),
            grouped(rate.round() as u64),
            size(self.sum(|row| row.bytes)),
            grouped(self.sum(|row| row.delivered)),
            size(self.sum(|row| row.lag)),
            counted(self.rotations, "rotation"),
            counted(self.restarts, "restart"),
        );
        if self.retries > 0 {
            text += &format!(" · {}", counted(self.retries, "retry"));
        }
        if self.refused > 0 {
            text += &format!(" · {} refused", grouped(self.refused));
        }
        text
    }
}

/// Where the view is shown.
pub enum Screen {
    /// A terminal.
    Live(Live),
    /// Anything else: the time of the last line.
    Plain(Instant),
}

impl Screen {
    /// The table if stdout is a terminal that can show it, else plain lines.
    pub fn open() -> Screen {
        // A terminal that cannot be taken over is no reason to do without the demo.
        Live::open().map_or_else(|| Screen::Plain(Instant::now()), Screen::Live)
    }

    /// Shows `view`. `urgent`: also where a line was shown a moment ago.
    pub fn show(&mut self, view: &View, urgent: bool) {
        match self {
            // Errors of the terminal are not the demo's: the verification counts.
            Screen::Live(live) if !live.guard.given_back() => {
                let colour = live.colour;
                let _ = live.terminal.draw(|frame| draw(frame, view, colour));
            }
            Screen::Plain(last) if urgent || last.elapsed() >= PLAIN_EVERY => {
                *last = Instant::now();
                say(&format!("{:>4.0} s {}: {}", view.elapsed.as_secs_f64(), view.phase, view.totals()));
                if let Some(error) = &view.last_error {
                    say(&format!("       last error: {}", printable(error)));
                }
            }
            _ => {}
        }
    }

    /// What gives the terminal back from any thread; `None` where there is none.
    pub fn guard(&self) -> Option<Guard> {
        match self {
            Screen::Live(live) => Some(live.guard.clone()),
            Screen::Plain(_) => None,
        }
    }
}

/// Draws `view` into whatever room there is: columns that do not fit are left out, the least telling first.
fn draw(frame: &mut Frame, view: &View, colour: bool) {
    let tint = |style: Style, tint: Color| if colour { style.fg(tint) } else { style };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let error_height = u16::from(view.last_error.is_some());
    let heights = [1, 1, 2, error_height].map(Constraint::Length);
    let [title, bar, totals, error, body] =
        Layout::vertical(heights.into_iter().chain([Constraint::Fill(1)])).areas(frame.area());

    frame.render_widget(Line::styled("Taffrail demo: a little node, and the agent reading it", bold), title);
    let done = view.elapsed.as_secs_f64() / view.duration.as_secs_f64().max(0.001);
    let gauge =
        Gauge::default().ratio(done.clamp(0.0, 1.0)).gauge_style(tint(Style::new(), Color::Cyan)).label(
            format!("{:.0} of {} s · {}", view.elapsed.as_secs_f64(), view.duration.as_secs(), view.phase),
        );
    frame.render_widget(gauge, bar);
    // The totals wrap by parts, so that a narrow terminal shows them all the same.
    frame.render_widget(Text::from(wrapped(&view.totals(), usize::from(totals.width))), totals);
    if let Some(text) = &view.last_error {
        frame.render_widget(Line::styled(printable(text), tint(Style::new(), Color::Red)), error);
    }

    type Column = (&'static str, u16, u16, fn(&ContainerRow) -> String);
    /// Title, width, the least width of the terminal that has room for it, content.
    const COLUMNS: [Column; 6] = [
        ("POD", 0, 0, |row| row.pod.clone()),
        ("CONTAINER", 10, 76, |row| row.container.to_owned()),
        ("LINES", 9, 30, |row| grouped(row.lines)),
        ("BYTES", 9, 72, |row| size(row.bytes)),
        ("LAG", 9, 60, |row| size(row.lag)),
        ("DELIVERED", 10, 42, |row| grouped(row.delivered)),
    ];
    let columns: Vec<_> = COLUMNS.iter().filter(|column| body.width >= column.2).collect();
    let others: u16 = columns.iter().filter(|column| column.1 > 0).map(|column| column.1 + 1).sum();
    let room = usize::from(body.width.saturating_sub(others));
    let cell = |column: &&Column, text: String| {
        let text = Text::from(text);
        if matches!(column.0, "POD" | "CONTAINER") { text } else { text.right_aligned() }
    };
    let header = Row::new(columns.iter().map(|column| cell(column, column.0.to_owned()))).style(bold);
    let rows = view.rows.iter().map(|row| {
        let style = if row.lag > 0 { tint(Style::new(), Color::Yellow) } else { Style::new() };
        let content = |column: &&Column| match column.1 {
            0 => shortened(&column.3(row), room),
            _ => column.3(row),
        };
        Row::new(columns.iter().map(|column| cell(column, content(column)))).style(style)
    });
    let widths = columns.iter().map(|column| match column.1 {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    });
    frame.render_widget(Table::new(rows, widths).header(header), body);
}

/// A pod's name in `room` letters: without its namespace, or only its end, which tells it from its siblings.
fn shortened(pod: &str, room: usize) -> String {
    if pod.len() <= room {
        return pod.to_owned();
    }
    let name = pod.split_once('/').map_or(pod, |(_, name)| name);
    match name.len().checked_sub(room.saturating_sub(1)) {
        Some(cut) if name.len() > room => format!("…{}", name.get(cut..).unwrap_or_default()),
        _ => name.to_owned(),
    }
}

/// Divides `text` at its dots into lines of at most `width` letters.
fn wrapped(text: &str, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<String> = Vec::new();
    for part in text.split(" · ") {
        match lines.last_mut() {
            Some(line) if line.chars().count() + part.chars().count() + 3 <= width => {
                *line += &format!(" · {part}")
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines.into_iter().map(Line::from).collect()
}

/// The table as text, to stay on the terminal when the live one is gone.
pub fn summary(view: &View) -> String {
    let pod = view.rows.iter().map(|row| row.pod.len()).max().unwrap_or(0);
    let mut text =
        format!("{:pod$}  {:10} {:>9} {:>9} {:>9}\n", "POD", "CONTAINER", "LINES", "BYTES", "DELIVERED");
    for row in &view.rows {
        let (lines, delivered) = (grouped(row.lines), grouped(row.delivered));
        text += &format!(
            "{:pod$}  {:10} {lines:>9} {:>9} {delivered:>9}\n",
            row.pod,
            row.container,
            size(row.bytes)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn view() -> View {
        let row = |pod: &str, lag| ContainerRow {
            pod: pod.to_owned(),
            container: "web",
            lines: 12_345,
            bytes: 4_000_000,
            lag,
            delivered: 12_000,
        };
        View {
            phase: "writing",
            elapsed: Duration::from_secs(5),
            written_for: Duration::from_secs(5),
            duration: Duration::from_secs(20),
            rows: vec![row("shop/storefront-x", 100), row("payments/ledger-0", 0)],
            rotations: 14,
            restarts: 1,
            last_error: Some("connection refused\u{1b}[2J".to_owned()),
            ..View::default()
        }
    }

    fn drawn(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &view(), false)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_wide_terminal_shows_every_column() {
        let text = drawn(100, 12);
        for part in [
            "POD",
            "CONTAINER",
            "BYTES",
            "LAG",
            "DELIVERED",
            "24,690 lines (4,938/s)",
            "1 restart",
            "5 of 20 s",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_narrow_terminal_keeps_the_pods_and_what_was_delivered() {
        let text = drawn(50, 12);
        assert!(text.contains("ledger-0") && text.contains("DELIVERED") && !text.contains("BYTES"), "{text}");
    }

    #[test]
    fn a_pod_whose_name_does_not_fit_keeps_its_end() {
        let names = [40, 25, 10, 1, 0].map(|room| shortened("shop/storefront-mhjfn7klgw-ckfct", room));
        let end = |cut: &str| format!("…{cut}");
        let full = "shop/storefront-mhjfn7klgw-ckfct".to_owned();
        assert_eq!(names, [full, end("refront-mhjfn7klgw-ckfct"), end("lgw-ckfct"), end(""), end("")]);
        assert_eq!(shortened("shop/cart-1", 8), "cart-1");
    }

    #[test]
    fn no_size_is_too_small() {
        for width in 0..12 {
            for height in 0..8 {
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal.draw(|frame| draw(frame, &view(), true)).unwrap();
            }
        }
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [0, 999, 1_000, 40_213, 1_000_000].map(grouped),
            ["0", "999", "1,000", "40,213", "1,000,000"]
        );
        assert_eq!(size(812), "812 B");
        assert_eq!(size(3 * 1024 * 1024 + 512 * 1024), "3.5 MiB");
        assert_eq!(
            (counted(1, "restart"), counted(2, "retry")),
            ("1 restart".to_owned(), "2 retries".to_owned())
        );
    }
}
