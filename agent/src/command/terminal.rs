//! The terminal: what commands that show something have in common.
//!
//! In: text, or the wish for a screen. Out: lines on stdout, or the terminal's alternate screen, given back whatever happens.
//! What comes from logs or servers is made [`printable`]: nothing of it steers a terminal.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode};

/// A terminal whose alternate screen is in use.
pub struct Live {
    /// It.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
    /// What gives it back.
    pub guard: Guard,
    /// Whether colours are wanted.
    pub colour: bool,
}

impl Live {
    /// The terminal that stdout is, if it can show a screen.
    pub fn open() -> Option<Live> {
        if shows(&io::stdout()) { Live::take().ok() } else { None }
    }

    fn take() -> io::Result<Live> {
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        let guard = Guard(Arc::new(AtomicBool::new(false)));
        // The message of a panic, in whatever thread, would vanish with the alternate screen.
        let (of_hook, before) = (guard.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            of_hook.give_back();
            before(panic);
        }));
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(Live { terminal, guard, colour: wants_colour() })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.guard.give_back();
    }
}

/// Gives the terminal back, once.
#[derive(Clone, Debug)]
pub struct Guard(Arc<AtomicBool>);

impl Guard {
    /// Leaves the alternate screen and shows the cursor, unless that has been done.
    pub fn give_back(&self) {
        if !self.0.swap(true, Ordering::SeqCst) {
            let _ = disable_raw_mode();
            let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        }
    }

    /// Whether it has been.
    pub fn given_back(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Whether a stream is a terminal on which something can be drawn anew.
pub fn shows(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Prints a line to stdout. A reader that has gone away, as in `demo | head`, is no reason to stop.
pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Whether somebody at the terminal says yes. Without a terminal nobody does.
pub fn agreed(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    print!("{question} [y/N] ");
    let mut answer = String::new();
    // A terminal that cannot be written to or read from has not agreed.
    io::stdout().flush().is_ok()
        && io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Whether a terminal would obey it, or set the line in another order.
fn steers(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with what a terminal would obey written out, as JSON writes it.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            out += &format!("\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

/// Whether stdout, being a terminal, is wanted in colours.
pub fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `text` without what a terminal would obey: errors may quote what a server sent.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

/// `40213` as `40,213`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 rotation`, `14 rotations`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = match what.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{what}s"),
    };
    format!("{} {}", grouped(number), if number == 1 { what } else { &plural })
}

/// Bytes for people: `812 B`, `3.4 MiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// Seconds for people: `4.2 s`, `3 min`, `1.5 h`; `-` for next to none.
pub fn age(seconds: f64) -> String {
    match seconds as u64 {
        0 if seconds < 0.05 => "-".to_owned(),
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_steers_the_terminal() {
        let text = "a\u{1b}[2J\u{9b}31m\u{202e}b\tc";
        assert_eq!(escaped(text), "a\\u001b[2J\\u009b31m\\u202eb\\u0009c");
        assert_eq!(printable(text), "a [2J 31m b c");
    }
}
