//! A terminal for a program that looks whether it has one.
//!
//! What comes in: a command, and then all that it wrote to its terminal. What goes out: the words that begin the command, so that it
//! has one, and what is left on the screen in the end. It never draws, and takes a sequence that it does not know for a fault.

/// What a command begins with that shall have a terminal of its own; what it writes there, to stdout or stderr, comes out as
/// stdout.
pub fn on_a_terminal() -> Vec<String> {
    // `script` takes a command as one text. Its words are paths and addresses, which need no quotes.
    ["env", "TERM=xterm", "SHELL=/bin/sh", "sh", "-c", "exec script -qefc \"$*\" /dev/null", "sh"]
        .map(str::to_owned)
        .into()
}

/// The lines that are to be seen in the end, without empty ones at the end.
///
/// # Panics
/// At a sequence that is not known here.
pub fn left_on_screen(written: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0_usize, 0_usize);
    let mut characters = written.chars();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                assert_eq!(characters.next(), Some('['), "a sequence that is not known, in {written:?}");
                let mut parameters = String::new();
                let end = characters.by_ref().find(|&character| {
                    parameters.push(character);
                    character.is_ascii_alphabetic()
                });
                parameters.pop();
                let number = || parameters.parse::<usize>().unwrap_or(1);
                match (end, &*parameters) {
                    (Some('A'), _) => row = row.saturating_sub(number()),
                    (Some('B'), _) => row += number(),
                    (Some('K'), "2") => lines[row].clear(),
                    (Some('K'), "" | "0") => lines[row].truncate(column),
                    (Some('J'), "" | "0") => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    // Colours, and whether the cursor is seen.
                    (Some('m'), _) | (Some('h' | 'l'), "?25") => {}
                    other => panic!("{other:?} is not known, in {written:?}"),
                }
            }
            character => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = character;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let mut lines: Vec<String> =
        lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wiped_is_not_left() {
        let written = "first\r\n 1 of 2\r\u{1b}[2Ksecond\r\n 2 of 2\u{1b}[1A\r\u{1b}[1B\u{1b}[Jthird\r\n";
        assert_eq!(left_on_screen(written), ["first", "second", "third"]);
        assert_eq!(left_on_screen("one\r\ntwo\u{1b}[1A\rO\u{1b}[31m!"), ["O!e", "two"]);
    }
}
