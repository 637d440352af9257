//! Values of flags: durations, times, pairs and signals.

use std::time::{Duration, SystemTime};

use super::signals;

/// A duration with its unit, or a bare `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error} (write 90s, 5m or 1h 30m)"))
}

/// The same for a request.
pub(super) fn span(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| prost_types::Duration::try_from(duration).ok())
}

/// A time in RFC 3339, or how long ago it was.
pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "is too long ago".to_owned());
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "is neither a time (2031-05-01T12:00:00Z) nor a time ago (90m)".to_owned())
}

/// `KEY=VALUE`, where the value may hold more equals signs or nothing.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("is not KEY=VALUE".to_owned()),
    }
}

/// The name or number of a signal.
pub(super) fn signal(text: &str) -> Result<i32, String> {
    signals::number(text).ok_or_else(|| {
        "is not a signal: give a name such as TERM or SIGTERM, or a number from 1 to 64".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_apart_from_zero() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert!(duration("30").is_err_and(|error| error.contains("90s")));
    }

    #[test]
    fn a_time_is_given_as_such_or_as_time_ago() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(time("1970-01-01T00:00:01Z"), Ok(epoch + Duration::from_secs(1)));
        assert!(time("5m").is_ok_and(|time| time < SystemTime::now()));
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn a_pair_needs_a_key() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
