//! Collecting figures over rounds and printing their medians.

use std::time::Duration;

/// Figures by name, in the order in which they first came.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(String, Vec<f64>)>,
}

impl Table {
    /// Adds the figure of one round.
    pub(crate) fn add(&mut self, name: &str, figure: f64) {
        match self.rows.iter_mut().find(|(known, _)| known == name) {
            Some((_, figures)) => figures.push(figure),
            None => self.rows.push((name.to_owned(), vec![figure])),
        }
    }

    /// Prints a row for each figure: the median, the least, the greatest.
    pub(crate) fn print(mut self) {
        println!("| figure | median | least | greatest |");
        println!("|---|---|---|---|");
        for (name, figures) in &mut self.rows {
            figures.sort_by(f64::total_cmp);
            let show = |place: usize| figures.get(place).copied().map_or_else(String::new, digits);
            let last = figures.len() - 1;
            println!("| {name} | {} | {} | {} |", show(last / 2), show(0), show(last));
        }
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
