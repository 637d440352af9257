//! Names and numbers of the signals of Linux.
//!
//! The numbers are those of the machine that the service runs on, and they are the same on all
//! machines that this program is built for.

/// The signals with a name, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names for the same signals.
const ALIASES: [(&str, i32); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];

/// The first and last signal without a meaning of its own.
const REAL_TIME_FIRST: i32 = 34;
const REAL_TIME_LAST: i32 = 64;

/// SIGKILL.
pub(super) const KILL: i32 = 9;

/// The number of the signal called `text`: `TERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
pub(super) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REAL_TIME_LAST).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(REAL_TIME_FIRST, rest, '+', 1);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(REAL_TIME_LAST, rest, '-', -1);
    }
    let named = NAMES.iter().zip(1..).find(|(known, _)| **known == name);
    let named = named.map(|(_, number)| number);
    named.or_else(|| ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number))
}

/// The name of a signal, for example `SIGTERM`.
pub(super) fn name(number: i32) -> String {
    let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
    match NAMES.get(index) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

fn real_time(from: i32, rest: &str, sign: char, direction: i32) -> Option<i32> {
    let steps: i32 = match rest {
        "" => 0,
        rest => rest.strip_prefix(sign)?.parse().ok().filter(|steps| (0..=30).contains(steps))?,
    };
    Some(from + direction * steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_name_and_by_number() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(number(text), Some(15), "{text}");
        }
        assert_eq!(number("KILL"), Some(KILL));
        assert_eq!(number("SYS"), Some(31));
        assert_eq!(number("RTMIN+1"), Some(35));
        assert_eq!(number("SIGRTMAX-2"), Some(62));
        for wrong in ["", "0", "65", "-9", "SIG", "FOO", "RTMIN+31", "RTMIN-1", "RTMIN+x"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(40), "signal 40");
    }
}
