//! `taffrail top`: what the running agent reads and delivers, by output and container.
//!
//! In: the agent's status, asked for every two seconds, and keys. Out: a table on the terminal, or once as plain lines for
//! pipes. Never changes anything at the agent.

mod table;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::enable_raw_mode;
use tokio::runtime::Runtime;

use super::client::{Asked, address, runtime};
use super::terminal::{Live, say};
use crate::admin::status::Status;
use table::{Order, View, draw, plain};

/// Between two looks at the agent; rates are of this time.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The same for `--once`.
const ONCE: Duration = Duration::from_millis(1100);

/// What may be said to it.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Where the agent listens [default: `listen` of the configuration]
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<String>,
    /// Print the table once, over a second, and end: as where stdout is no terminal
    #[arg(long)]
    once: bool,
}

/// Shows the table until it is told to end. `config`: that of the agent, for its address.
pub fn top(config: Option<&Path>, args: &TopArgs) -> ExitCode {
    let address = match address(args.address.as_deref(), config) {
        Ok(address) => address,
        Err(code) => return code,
    };
    match run(&address, args.once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.replace(|c: char| c.is_control() && c != '\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str, once: bool) -> Result<(), String> {
    let (runtime, agent) = (runtime()?, Asked::at(address)?);
    // Before the screen is taken: an error is told where it can be read.
    let first = runtime.block_on(agent.status())?;
    let live = if once { None } else { Live::open() };
    let Some(mut live) = live else {
        std::thread::sleep(ONCE);
        say(plain(&runtime.block_on(agent.status())?).trim_end());
        return Ok(());
    };
    enable_raw_mode().map_err(|error| error.to_string())?;
    let mut view = View { status: first, ..View::default() };
    watch(&mut live, &mut view, &runtime, &agent).map_err(|error| error.to_string())
}

fn watch(live: &mut Live, view: &mut View, runtime: &Runtime, agent: &Asked) -> io::Result<()> {
    let mut due = Instant::now() + ONCE;
    loop {
        let colour = live.colour;
        live.terminal.draw(|frame| draw(frame, view, colour))?;
        if event::poll(due.saturating_duration_since(Instant::now()))? {
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
                && !press(view, key)
            {
                return Ok(());
            }
            continue;
        }
        look(view, runtime.block_on(agent.status()));
        due = Instant::now() + LOOK_EVERY;
    }
}

fn look(view: &mut View, status: Result<Status, String>) {
    match status {
        Ok(status) => (view.status, view.trouble) = (status, None),
        // What was seen last stays, under the word that it is old.
        Err(error) => view.trouble = error.lines().next().map(str::to_owned),
    }
}

/// What a key does; false if it ends the table.
fn press(view: &mut View, key: KeyEvent) -> bool {
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return false;
    }
    if view.typing {
        match key.code {
            KeyCode::Esc => (view.typing, view.filter) = (false, String::new()),
            KeyCode::Enter => view.typing = false,
            KeyCode::Backspace => {
                view.filter.pop();
            }
            KeyCode::Char(letter) if !letter.is_control() => view.filter.push(letter),
            _ => {}
        }
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('/') => (view.typing, view.filter) = (true, String::new()),
        KeyCode::Down => view.skip += 1,
        KeyCode::Up => view.skip = view.skip.saturating_sub(1),
        KeyCode::PageDown => view.skip += 20,
        KeyCode::PageUp => view.skip = view.skip.saturating_sub(20),
        KeyCode::Home => view.skip = 0,
        KeyCode::Char(letter) => {
            if let Some(order) = Order::of(letter) {
                (view.order, view.skip) = (order, 0);
            }
        }
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_filter_and_end() {
        let mut view = View::default();
        let type_all = |view: &mut View, letters: &str| {
            letters.chars().all(|letter| press(view, KeyEvent::from(KeyCode::Char(letter))))
        };
        assert!(type_all(&mut view, "b") && view.order == Order::Bytes);
        assert!(type_all(&mut view, "/queue") && view.filter == "queue" && view.typing);
        press(&mut view, KeyEvent::from(KeyCode::Enter));
        assert!(!view.typing && view.filter == "queue");
        assert!(!type_all(&mut view, "q"));
        look(&mut view, Err("gone\n  remedy".to_owned()));
        assert_eq!(view.trouble.as_deref(), Some("gone"));
        view.typing = true;
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!press(&mut view, control_c));
    }
}
