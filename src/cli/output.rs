//! Results on standard output: lines, tables and colours.
//!
//! Colours are for terminals only, and only where nobody asked to be spared. Text that comes
//! from a job or a service is escaped, so that it cannot steer the terminal.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use prost::Message;

use super::{failure::Failure, json};

pub(super) use crate::terminal::escaped;

/// Writes results in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    /// JSON was asked for.
    pub(super) json: bool,
    colours: bool,
}

/// A colour of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    /// Holds `text`, escaped.
    pub(super) fn new(text: impl AsRef<str>, colour: Colour) -> Cell {
        Cell { text: escaped(text.as_ref()), colour }
    }

    /// Holds `text`, escaped, in no colour.
    pub(super) fn plain(text: impl AsRef<str>) -> Cell {
        Cell::new(text, Colour::Plain)
    }
}

impl Printer {
    pub(super) fn new(json: bool) -> Printer {
        Printer { json, colours: !json && wants_colours(io::stdout().is_terminal()) }
    }

    /// Writes `message`, a `jobwarden.v1.<name>`, as JSON.
    #[expect(clippy::unused_self, reason = "one way to write results among others")]
    pub(super) fn object(self, name: &str, message: &impl Message) -> Result<(), Failure> {
        line(&json::line(name, message)?)
    }

    /// Writes `rows` with their columns aligned.
    pub(super) fn table(self, rows: &[Vec<Cell>]) -> Result<(), Failure> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        for line in aligned(rows, self.colours) {
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        Ok(())
    }

    /// `text`, escaped, in `colour` where there are colours.
    pub(super) fn painted(self, text: &str, colour: Colour) -> String {
        paint(&escaped(text), colour, self.colours)
    }
}

/// Writes one line as it stands.
pub(super) fn line(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(())
}

/// Whether standard error is read by a person.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Says something to people, on standard error.
pub(super) fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr().lock(), "jobwarden: {}", escaped(text));
}

/// At most `most` characters of `text`, with a mark where something was cut off.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{head}…")
}

/// The width of the terminal that the shell told us, if it did.
pub(super) fn columns() -> Option<usize> {
    env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns >= 40)
}

fn wants_colours(is_terminal: bool) -> bool {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    is_terminal && !is_set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn aligned(rows: &[Vec<Cell>], colours: bool) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    rows.iter().map(|row| aligned_row(row, &widths, colours)).collect()
}

fn aligned_row(row: &[Cell], widths: &[usize], colours: bool) -> String {
    let mut line = String::new();
    for (column, cell) in row.iter().enumerate() {
        line.push_str(&paint(&cell.text, cell.colour, colours));
        if column + 1 < row.len() {
            let used = cell.text.chars().count();
            line.extend(std::iter::repeat_n(' ', widths[column] - used + 2));
        }
    }
    line
}

fn paint(text: &str, colour: Colour, colours: bool) -> String {
    let code = match colour {
        Colour::Plain => return text.to_owned(),
        Colour::Bold => "1",
        Colour::Dim => "2",
        Colour::Red => "31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Blue => "34",
    };
    if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whether_painted_or_not() {
        let rows = [
            vec![Cell::new("a", Colour::Bold), Cell::plain("x")],
            vec![Cell::new("bbb", Colour::Bold), Cell::plain("y")],
        ];
        assert_eq!(aligned(&rows, false), ["a    x", "bbb  y"]);
        assert_eq!(aligned(&rows, true)[0], "\u{1b}[1ma\u{1b}[0m    x");
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abcde…");
    }
}
