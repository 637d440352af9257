//! The job of the benches of followers: this program itself, which writes the time, a line at once.
//!
//! A shell would start a process for each line, and cost more than what is measured.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant, SystemTime},
};

const ASKS: &str = "--as-writer";
/// Whoever started it has gone by then.
const LINES_MAX: u32 = 1000;

/// The command of a job that writes so many lines, one each `every_ms`.
pub(crate) fn argv(lines: u32, every_ms: u32) -> Vec<String> {
    let program = std::env::current_exe().expect("this program has a path");
    let program = program.to_string_lossy().into_owned();
    vec![program, ASKS.to_owned(), lines.to_string(), every_ms.to_string()]
}

/// Whether this process is to be the writer.
pub(crate) fn is_asked_for(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|first| first == ASKS)
}

/// Writes the lines.
pub(crate) fn run(arguments: &[String]) {
    let number = |place: usize| arguments.get(place).and_then(|text| text.parse::<u32>().ok());
    let lines = number(1).unwrap_or(0).min(LINES_MAX);
    let every = Duration::from_millis(number(2).unwrap_or(1000).into());
    let begin = Instant::now();
    for line in 1..=lines {
        thread::sleep((begin + every * line).saturating_duration_since(Instant::now()));
        // The newline makes it one write.
        let text = format!("{}\n", now().as_nanos());
        if std::io::stdout().write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// How long ago the lines of a piece of output were written.
pub(crate) fn ages(data: &[u8]) -> Vec<Duration> {
    let now = now();
    let written = |line: &str| line.parse().ok().map(Duration::from_nanos);
    let text = String::from_utf8_lossy(data);
    text.lines().filter_map(written).map(|written| now.saturating_sub(written)).collect()
}

/// How long ago a recorded time was.
pub(crate) fn age(time: Option<&prost_types::Timestamp>) -> Duration {
    let since_epoch = time.map_or(Duration::ZERO, |time| {
        let (seconds, nanos) = (u64::try_from(time.seconds), u32::try_from(time.nanos));
        Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
    });
    now().saturating_sub(since_epoch)
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
