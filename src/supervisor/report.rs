//! What a launcher tells a supervisor that took a dead one's place: how the job's process ended,
//! whose parent it is now. One short line through a pipe.

use std::time::Duration;

use crate::sys::process::{Ended, ExitReport, Resources};

/// The most bytes of a report.
pub(super) const REPORT_BYTES_MAX: usize = 256;

/// The line that reports how a process ended.
pub fn report_line(report: &ExitReport) -> String {
    let ExitReport { ended, resources, storage_bytes: (read, written) } = report;
    let Resources { user_time, system_time, max_rss_bytes } = resources;
    let (kind, number) = match ended {
        Ended::Exited(code) => ("exited", code),
        Ended::Signaled(signal, false) => ("signaled", signal),
        Ended::Signaled(signal, true) => ("dumped", signal),
    };
    let (user, system) = (user_time.as_micros(), system_time.as_micros());
    format!("{kind} {number} {user} {system} {max_rss_bytes} {read} {written}\n")
}

/// The report of a whole line.
pub(super) fn parse_report(line: &str) -> Option<ExitReport> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let kind = words.next()?;
    let number = words.next()?.parse().ok()?;
    let ended = match kind {
        "exited" => Ended::Exited(number),
        "signaled" => Ended::Signaled(number, false),
        "dumped" => Ended::Signaled(number, true),
        _ => return None,
    };
    let mut next = || words.next()?.parse::<u64>().ok();
    let resources = Resources {
        user_time: Duration::from_micros(next()?),
        system_time: Duration::from_micros(next()?),
        max_rss_bytes: next()?,
    };
    let storage_bytes = (next()?, next()?);
    words.next().is_none().then_some(ExitReport { ended, resources, storage_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line_and_a_cut_one_does_not_count() {
        let (user_time, system_time) = (Duration::from_micros(u64::MAX), Duration::ZERO);
        let resources = Resources { user_time, system_time, max_rss_bytes: u64::MAX };
        for ended in [Ended::Exited(255), Ended::Signaled(9, false), Ended::Signaled(64, true)] {
            let report = ExitReport { ended, resources, storage_bytes: (u64::MAX, u64::MAX) };
            let line = report_line(&report);
            assert!(line.len() <= REPORT_BYTES_MAX);
            let parsed = parse_report(&line).unwrap();
            assert_eq!((parsed.ended, parsed.storage_bytes), (ended, report.storage_bytes));
            assert_eq!(parsed.resources.user_time, user_time);
            assert!(parse_report(&line[..line.len() - 1]).is_none());
        }
    }
}
