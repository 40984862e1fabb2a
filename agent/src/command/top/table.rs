//! The table of `taffrail top`, on a terminal or as plain lines.
//!
//! In: a status, an order and a filter. Out: rows that fit. What comes from the agent is shown without anything that a
//! terminal would obey.

use std::cmp::Reverse;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Row, Table};

use super::super::terminal::{age, counted, grouped, printable, size};
use crate::admin::status::{ContainerStatus, OutputStatus, Status};

/// What containers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Bytes that are not acknowledged, most first.
    #[default]
    Lag,
    /// The age of the oldest of these.
    Age,
    /// Lines a second.
    Lines,
    /// Bytes a second.
    Bytes,
    /// Bytes of deleted logs that are kept.
    Retained,
    /// By name.
    Name,
}

impl Order {
    /// The one of a key.
    pub fn of(letter: char) -> Option<Order> {
        Some(match letter {
            'g' => Order::Lag,
            'a' => Order::Age,
            'l' => Order::Lines,
            'b' => Order::Bytes,
            'r' => Order::Retained,
            'n' => Order::Name,
            _ => return None,
        })
    }

    fn rank(self, container: &ContainerStatus) -> u64 {
        match self {
            Order::Lag => container.lag_bytes,
            Order::Age => (container.lag_seconds * 1e3) as u64,
            Order::Lines => container.records_per_second.unwrap_or_default() as u64,
            Order::Bytes => container.bytes_per_second.unwrap_or_default() as u64,
            Order::Retained => container.retained_bytes,
            Order::Name => 0,
        }
    }
}

/// Everything that one redraw shows.
#[derive(Debug, Default)]
pub struct View {
    /// The status seen last.
    pub status: Status,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    /// The order of containers.
    pub order: Order,
    /// Only containers in whose names this stands.
    pub filter: String,
    /// It is being typed.
    pub typing: bool,
    /// Rows that are above the first one shown.
    pub skip: usize,
}

type Column<T> = (&'static str, fn(&T) -> String);

const OUTPUTS: [Column<OutputStatus>; 9] = [
    ("OUTPUT", |o| printable(&o.name)),
    ("TYPE", |o| o.kind.clone()),
    ("LINES/S", |o| rate(o.records_per_second)),
    ("BYTES/S", |o| o.bytes_per_second.map_or("-".to_owned(), |bytes| size(bytes as u64))),
    ("LAG", |o| size(o.lag_bytes)),
    ("AGE", |o| age(o.lag_seconds)),
    ("IN FLIGHT", |o| o.in_flight.to_string()),
    ("RETRIES", |o| grouped(o.retries)),
    ("REFUSED", |o| grouped(o.refused)),
];

const CONTAINERS: [Column<ContainerStatus>; 8] = [
    ("POD", |c| printable(&format!("{}/{}", c.namespace, c.pod))),
    ("CONTAINER", |c| printable(&c.container)),
    ("OUTPUT", |c| printable(&c.output)),
    ("LINES/S", |c| rate(c.records_per_second)),
    ("BYTES/S", |c| c.bytes_per_second.map_or("-".to_owned(), |bytes| size(bytes as u64))),
    ("LAG", |c| size(c.lag_bytes)),
    ("AGE", |c| age(c.lag_seconds)),
    ("RETAINED", |c| size(c.retained_bytes)),
];

fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => grouped(rate.round() as u64),
    }
}

/// The agent in one line.
fn title(status: &Status) -> String {
    let agent = &status.agent;
    let mut text = format!(
        "taffrail {} on {} ({}), up {}, {}, {}",
        agent.version,
        printable(&agent.node),
        printable(&agent.cluster),
        age(agent.uptime_seconds),
        size(agent.resident_bytes),
        counted(status.containers.len() as u64, "log"),
    );
    for (what, said) in [("health", &agent.health), ("ready", &agent.ready)] {
        if said != "ok" {
            text += &format!(" · {what}: {}", printable(said));
        }
    }
    text
}

/// What went wrong last: with an output, or as the log says.
fn troubles(status: &Status) -> Vec<String> {
    let mut troubles = Vec::new();
    for output in &status.outputs {
        let lost: u64 = output.lost_bytes.values().sum();
        if lost > 0 {
            let reasons: Vec<String> = output
                .lost_bytes
                .iter()
                .map(|(reason, bytes)| format!("{reason} {}", size(*bytes)))
                .collect();
            troubles.push(format!("{} lost {}: {}", output.name, size(lost), reasons.join(", ")));
        }
    }
    for saying in status.told.iter().take(3) {
        let of =
            [&saying.output, &saying.container].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ");
        let times = if saying.count > 1 { format!(" ({} times)", saying.count) } else { String::new() };
        troubles.push(format!("{}: {of} {} {}{times}", saying.level, saying.message, saying.details));
    }
    troubles.iter().map(|trouble| printable(trouble)).collect()
}

fn sorted<'a>(containers: &'a [ContainerStatus], order: Order, filter: &str) -> Vec<&'a ContainerStatus> {
    let name = |c: &ContainerStatus| format!("{}/{}/{}", c.namespace, c.pod, c.container);
    let mut found: Vec<_> = containers.iter().filter(|c| name(c).contains(filter)).collect();
    found.sort_by_cached_key(|c| (Reverse(order.rank(c)), name(c), c.output.clone()));
    found
}

/// The whole as plain lines.
pub fn plain(status: &Status) -> String {
    let outputs: Vec<&OutputStatus> = status.outputs.iter().collect();
    let containers = sorted(&status.containers, Order::default(), "");
    let mut text =
        format!("{}\n\n{}\n{}", title(status), lines(&OUTPUTS, &outputs), lines(&CONTAINERS, &containers));
    for trouble in troubles(status) {
        text += &format!("\n{trouble}");
    }
    text
}

/// A table as lines, each column as wide as it must be.
fn lines<T>(columns: &[Column<T>], rows: &[&T]) -> String {
    let head = columns.iter().map(|column| column.0.to_owned()).collect::<Vec<_>>();
    let cells = rows.iter().map(|row| columns.iter().map(|column| column.1(row)).collect::<Vec<_>>());
    let all: Vec<Vec<String>> = std::iter::once(head).chain(cells).collect();
    let width = |at: usize| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().enumerate().map(|(at, cell)| match is_name(columns[at].0) {
            true => format!("{cell:<width$}", width = width(at)),
            false => format!("{cell:>width$}", width = width(at)),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn is_name(title: &str) -> bool {
    matches!(title, "POD" | "CONTAINER" | "OUTPUT" | "TYPE")
}

/// Draws the view into whatever room there is.
pub fn draw(frame: &mut Frame<'_>, view: &View, colour: bool) {
    let tint = |tint: Color| if colour { Style::new().fg(tint) } else { Style::new() };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let told = troubles(&view.status);
    let outputs = view.status.outputs.len() as u16 + 2;
    let heights = [1, 1, outputs].map(Constraint::Length);
    let rest = [Constraint::Fill(1), Constraint::Length(told.len() as u16)];
    let [head, help, above, body, below] =
        Layout::vertical(heights.into_iter().chain(rest)).areas(frame.area());
    frame.render_widget(Line::styled(title(&view.status), bold), head);
    let line = match (&view.trouble, view.typing, view.filter.is_empty()) {
        (Some(trouble), ..) => Line::styled(printable(trouble), tint(Color::Red)),
        (None, true, _) => {
            Line::raw(format!("filter: {}_   (enter keeps it, esc clears it)", printable(&view.filter)))
        }
        (None, false, true) => {
            Line::raw("q end · / filter · sort: g lag, a age, l lines, b bytes, r retained, n name")
        }
        (None, false, false) => {
            Line::raw(format!("filter: {}   (/ another, q end)", printable(&view.filter)))
        }
    };
    frame.render_widget(line, help);
    let all: Vec<&OutputStatus> = view.status.outputs.iter().collect();
    table(frame, above, &OUTPUTS, &all, |output| {
        if output.lag_seconds > 60.0 { tint(Color::Yellow) } else { Style::new() }
    });
    let found = sorted(&view.status.containers, view.order, &view.filter);
    let skip = view.skip.min(found.len().saturating_sub(1));
    table(frame, body, &CONTAINERS, &found[skip..], |container| match container.state.as_str() {
        "reading" if container.lag_bytes > 0 => tint(Color::Yellow),
        "reading" => Style::new(),
        _ => tint(Color::Red),
    });
    let told: Vec<Line<'_>> = told.into_iter().map(|told| Line::styled(told, tint(Color::Red))).collect();
    frame.render_widget(Text::from(told), below);
}

fn table<T>(
    frame: &mut Frame<'_>,
    area: ratatui::layout::Rect,
    columns: &[Column<T>],
    rows: &[&T],
    style: impl Fn(&T) -> Style,
) {
    let rows = &rows[..rows.len().min(usize::from(area.height))];
    let widths = columns.iter().map(|(title, of)| {
        let widest = rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0).max(title.len());
        if *title == "POD" { Constraint::Fill(1) } else { Constraint::Length(widest.min(40) as u16) }
    });
    let cell = |title: &str, text: String| {
        let text = Text::from(text);
        if is_name(title) { text } else { text.right_aligned() }
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let head = Row::new(columns.iter().map(|(title, _)| cell(title, (*title).to_owned()))).style(bold);
    let body = rows
        .iter()
        .map(|row| Row::new(columns.iter().map(|(title, of)| cell(title, of(row)))).style(style(row)));
    frame.render_widget(Table::new(body.collect::<Vec<_>>(), widths).header(head), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn view() -> View {
        let container = |pod: &str, lag_bytes, lag_seconds| ContainerStatus {
            output: "search".into(),
            namespace: "shop".into(),
            pod: pod.into(),
            container: "app".into(),
            records_per_second: Some(1234.4),
            bytes_per_second: Some(2048.0),
            lag_bytes,
            lag_seconds,
            state: "reading".into(),
            ..ContainerStatus::default()
        };
        let output = OutputStatus {
            name: "search".into(),
            kind: "elasticsearch".into(),
            lost_bytes: [("deleted".to_owned(), 2048)].into(),
            ..OutputStatus::default()
        };
        let containers = vec![container("web-0", 0, 0.0), container("cart\u{1b}[2J-1", 4096, 75.0)];
        let status = Status { outputs: vec![output], containers, ..Status::default() };
        View { status, ..View::default() }
    }

    #[test]
    fn the_one_that_lags_most_is_first_and_nothing_steers_the_terminal() {
        let text = plain(&view().status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "OUTPUT  TYPE           LINES/S  BYTES/S  LAG  AGE  IN FLIGHT  RETRIES  REFUSED"
        );
        assert_eq!(
            lines[6],
            "shop/cart [2J-1  app        search    1,234  2.0 KiB  4.0 KiB  1 min       0 B"
        );
        assert!(lines[7].starts_with("shop/web-0 "), "{text}");
        assert!(text.ends_with("search lost 2.0 KiB: deleted 2.0 KiB"), "{text}");
    }

    #[test]
    fn no_size_is_too_small_and_a_filter_leaves_out_the_others() {
        let mut view = view();
        for (width, height) in (0..90).step_by(9).flat_map(|width| (0..14).map(move |height| (width, height)))
        {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &view, true)).unwrap();
        }
        (view.filter, view.skip) = ("web".to_owned(), 99);
        let mut terminal = Terminal::new(TestBackend::new(110, 14)).unwrap();
        terminal.draw(|frame| draw(frame, &view, false)).unwrap();
        let text = terminal.backend().to_string();
        assert!(text.contains("web-0") && !text.contains("cart") && text.contains("1,234"), "{text}");
    }
}
