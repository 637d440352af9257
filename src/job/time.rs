//! A point in wall-clock time with nanoseconds, as it stands in files and replies.
//!
//! Durations are `std::time::Duration`; nothing here is used to measure them.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Nanoseconds since 1970-01-01T00:00:00Z. Covers the years 1970 to 2262.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// A text is not an RFC 3339 time in UTC.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a time like 2026-01-31T12:00:00Z")]
pub struct TimeError {
    text: String,
    source: humantime::TimestampError,
}

impl Time {
    /// The time `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the epoch.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This time `span` later, or the last one that can be told.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The day in UTC, as `YYYY-MM-DD`.
    pub fn day(self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }

    fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0)
    }
}

impl From<SystemTime> for Time {
    /// A clock before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_nanos(self.system_time()).fmt(f)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        humantime::parse_rfc3339(text)
            .map(Self::from)
            .map_err(|source| TimeError { text: text.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        let time = Time::from_nanos(1_790_000_000_123_456_789);
        assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        assert_eq!(time.day(), &time.to_string()[..10]);
    }

    #[test]
    fn a_time_before_the_epoch_is_refused_by_no_panic() {
        assert!("not a time".parse::<Time>().is_err());
        assert_eq!(Time::from(UNIX_EPOCH - Duration::from_secs(5)), Time::from_nanos(0));
    }
}
