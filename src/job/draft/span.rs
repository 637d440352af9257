//! Spans of time and the ranges that they may lie in.

use std::{ops::RangeInclusive, time::Duration};

use super::{Span, Violation};

const YEAR: Duration = Duration::from_hours(365 * 24);
const NANOS_MAX: i32 = 999_999_999;

/// The longest span that any request may give: 10 years of 365 days.
pub const SPAN_MAX: Duration = YEAR.saturating_mul(10);

/// Zero to 10 years.
pub fn any_span() -> RangeInclusive<Duration> {
    Duration::ZERO..=SPAN_MAX
}

/// More than zero, at most 10 years.
pub fn positive_span() -> RangeInclusive<Duration> {
    Duration::from_nanos(1)..=SPAN_MAX
}

impl Span {
    /// The span as a duration that lies in `range`, or what is wrong with it in `field`.
    pub fn duration(
        self,
        field: &str,
        range: &RangeInclusive<Duration>,
    ) -> Result<Duration, Violation> {
        let Self { seconds, nanos } = self;
        let fault = |description: String| Err(Violation::new(field, description));
        if !(-NANOS_MAX..=NANOS_MAX).contains(&nanos) {
            return fault(format!("its nanos must lie between -{NANOS_MAX} and {NANOS_MAX}"));
        }
        if (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0) {
            return fault("its seconds and nanos must have the same sign".to_owned());
        }
        let (Ok(whole), Ok(fraction)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
            return fault(format!("must not be negative; {}", allowed(range)));
        };
        let duration = Duration::new(whole, fraction);
        if range.contains(&duration) { Ok(duration) } else { fault(allowed(range)) }
    }
}

fn allowed(range: &RangeInclusive<Duration>) -> String {
    let text = |span: Duration| {
        if span == SPAN_MAX {
            "10 years".to_owned()
        } else {
            humantime::format_duration(span).to_string()
        }
    };
    let most = text(*range.end());
    if range.start().is_zero() {
        format!("must be at most {most}")
    } else if *range.start() == *positive_span().start() {
        format!("must be more than zero and at most {most}")
    } else {
        format!("must be at least {} and at most {most}", text(*range.start()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(seconds: i64, nanos: i32, range: &RangeInclusive<Duration>) -> Option<Duration> {
        Span { seconds, nanos }.duration("f", range).ok()
    }

    #[test]
    fn ten_years_are_allowed_and_not_a_nanosecond_more() {
        let most = 10 * 365 * 86_400;
        assert_eq!(check(most, 0, &any_span()), Some(SPAN_MAX));
        assert_eq!(check(most, 1, &any_span()), None);
        assert_eq!(check(most - 1, NANOS_MAX, &positive_span()).map(|_| ()), Some(()));
    }

    #[test]
    fn zero_is_allowed_only_where_it_means_something() {
        assert_eq!(check(0, 0, &any_span()), Some(Duration::ZERO));
        assert_eq!(check(0, 0, &positive_span()), None);
        assert_eq!(check(0, 1, &positive_span()), Some(Duration::from_nanos(1)));
    }

    #[test]
    fn a_fault_names_the_field_and_the_range() {
        let heartbeat = Duration::from_secs(1)..=Duration::from_hours(1);
        let fault = Span { seconds: 0, nanos: 5 }.duration("heartbeat_interval", &heartbeat);
        let fault = fault.unwrap_err();
        assert_eq!(fault.field, "heartbeat_interval");
        assert_eq!(fault.description, "must be at least 1s and at most 1h");
    }

    proptest! {
        #[test]
        fn only_well_formed_spans_in_range_are_taken(seconds: i64, nanos: i32) {
            for range in [any_span(), positive_span()] {
                if let Some(duration) = check(seconds, nanos, &range) {
                    prop_assert!(range.contains(&duration));
                    prop_assert_eq!(i64::try_from(duration.as_secs()), Ok(seconds));
                    prop_assert_eq!(i32::try_from(duration.subsec_nanos()), Ok(nanos));
                }
            }
        }
    }
}
