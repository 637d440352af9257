//! Collecting figures over rounds and printing their medians.

use std::time::Duration;

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// It is only told.
    None,
    /// The median is to be under this.
    Below(f64),
    /// The median is to be this or more.
    AtLeast(f64),
}

/// The figures of one name.
struct Row {
    name: String,
    target: Target,
    figures: Vec<f64>,
}

/// Figures by name, in the order in which they first came.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds the figure of one round.
    pub(crate) fn add(&mut self, name: &str, figure: f64) {
        self.add_for(name, figure, Target::None);
    }

    /// Adds the figure of one round, which has a target.
    pub(crate) fn add_for(&mut self, name: &str, figure: f64, target: Target) {
        match self.rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.figures.push(figure),
            None => self.rows.push(Row { name: name.to_owned(), target, figures: vec![figure] }),
        }
    }

    /// Prints a row for each figure: the median, the least, the greatest, and the target if any
    /// row has one.
    pub(crate) fn print(mut self) {
        let has_targets = self.rows.iter().any(|row| !matches!(row.target, Target::None));
        let (head, rule) = if has_targets { (" target | |", "---|---|") } else { ("", "") };
        println!("| figure | median | least | greatest |{head}");
        println!("|---|---|---|---|{rule}");
        for Row { name, target, figures } in &mut self.rows {
            figures.sort_by(f64::total_cmp);
            let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
            let last = figures.len() - 1;
            let median = at(last / 2);
            let told = if has_targets { target.told(median) } else { String::new() };
            println!(
                "| {name} | {} | {} | {} |{told}",
                digits(median),
                digits(at(0)),
                digits(at(last))
            );
        }
    }
}

impl Target {
    /// The two last columns of a row.
    fn told(self, median: f64) -> String {
        let (bound, is_met) = match self {
            Self::None => return " | |".to_owned(),
            Self::Below(most) => (format!("< {}", digits(most)), median < most),
            Self::AtLeast(least) => (format!("≥ {}", digits(least)), median >= least),
        };
        format!(" {bound} | {} |", if is_met { "met" } else { "missed" })
    }
}

/// Three digits or so, whatever the size.
fn digits(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// Rate and latencies of a number of calls.
pub(crate) struct Calls {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Calls {
    /// The figures of calls that took so long each and `whole` together.
    pub(crate) fn of(mut each: Vec<Duration>, whole: Duration) -> Self {
        each.sort_unstable();
        let at = |percent: usize| {
            let place = (each.len() * percent / 100).min(each.len().saturating_sub(1));
            each.get(place).map_or(f64::NAN, |span| span.as_secs_f64() * 1000.0)
        };
        let per_second = each.len() as f64 / whole.as_secs_f64();
        Self { per_second, p50_ms: at(50), p99_ms: at(99) }
    }
}
