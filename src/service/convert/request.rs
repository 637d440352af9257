//! From requests to our own types, with every fault at its field.

use std::{ops::RangeInclusive, time::Duration};

use super::choice::choices;
use crate::{
    access::PRINCIPAL_BYTES_MAX,
    api,
    job::{
        JobFilter, JobId, JobIdError, JobIdPrefix, Span, StateKind, Time, Violation, any_span,
        check_labels,
    },
};

const IDS_LEN_MAX: usize = 1000;
/// The most faulty ids that are told of one request.
const FAULTY_IDS_MAX: usize = 20;
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(15);
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);
const HEARTBEAT_MAX: Duration = Duration::from_hours(1);
/// The seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the ends of a `Timestamp`.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The filter, or every fault of it below `filter`.
pub fn filter(filter: api::JobFilter) -> Result<JobFilter, Vec<Violation>> {
    let api::JobFilter { job_ids: ids, states, labels, created_after, created_before, owner } =
        filter;
    let mut violations = Vec::new();
    let job_ids = job_ids("filter.job_ids", &ids).unwrap_or_else(|faults| {
        violations.extend(faults);
        Vec::new()
    });
    let states = choices("filter.states", &states).unwrap_or_else(|faults| {
        violations.extend(faults);
        Vec::new()
    });
    let labels = labels.into_iter().collect();
    violations.extend(check_labels("filter.labels", &labels));
    let mut point = |field: &str, timestamp: Option<prost_types::Timestamp>| {
        let point = timestamp.map(|timestamp| time(field, timestamp)).transpose();
        point.map_err(|fault| violations.push(fault)).ok().flatten()
    };
    let created_after = point("filter.created_after", created_after);
    let created_before = point("filter.created_before", created_before);
    if owner.len() > PRINCIPAL_BYTES_MAX {
        let rule = format!("must have at most {PRINCIPAL_BYTES_MAX} bytes, as every principal has");
        violations.push(Violation::new("filter.owner", rule));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    Ok(JobFilter {
        job_ids: job_ids.into_iter().collect(),
        states: states.into_iter().filter_map(state_kind).collect(),
        labels,
        created_after,
        created_before,
        owner: Some(owner).filter(|owner| !owner.is_empty()),
    })
}

/// A whole id.
pub fn job_id(field: &str, text: &str) -> Result<JobId, Violation> {
    text.parse().map_err(|error| malformed_id(field, &error))
}

/// A whole id or the beginning of one.
pub fn job_id_prefix(field: &str, text: &str) -> Result<JobIdPrefix, Violation> {
    text.parse().map_err(|error| malformed_id(field, &error))
}

/// Whole ids in the order given, at most 1,000.
pub fn job_ids(field: &str, texts: &[String]) -> Result<Vec<JobId>, Vec<Violation>> {
    if texts.len() > IDS_LEN_MAX {
        let description = format!("has {} ids; at most {IDS_LEN_MAX} are allowed", texts.len());
        return Err(vec![Violation::new(field, description)]);
    }
    let (mut ids, mut violations) = (Vec::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        match job_id(&format!("{field}[{index}]"), text) {
            Ok(id) => ids.push(id),
            Err(violation) => violations.push(violation),
        }
    }
    violations.truncate(FAULTY_IDS_MAX);
    if violations.is_empty() { Ok(ids) } else { Err(violations) }
}

/// A limit on waiting, zero to 10 years; the caller of this puts the server's cap on it.
pub fn wait_limit(
    field: &str,
    limit: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Violation> {
    limit.map(|limit| duration_in(field, limit, &any_span())).transpose()
}

/// A grace period, zero to 10 years.
pub fn stop_grace_period(
    field: &str,
    period: Option<prost_types::Duration>,
) -> Result<Option<Duration>, Violation> {
    period.map(|period| duration_in(field, period, &any_span())).transpose()
}

/// The longest silence of a stream, 1 s to 1 h; 15 s if unset.
pub fn heartbeat_interval(
    field: &str,
    interval: Option<prost_types::Duration>,
) -> Result<Duration, Violation> {
    let range = HEARTBEAT_MIN..=HEARTBEAT_MAX;
    interval.map_or(Ok(HEARTBEAT_DEFAULT), |interval| duration_in(field, interval, &range))
}

/// A duration that lies in `range`.
pub fn duration_in(
    field: &str,
    duration: prost_types::Duration,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, Violation> {
    span(duration).duration(field, range)
}

/// A point in time. What lies before 1970 or after 2262 becomes the end of that range: no job
/// is that old or that new.
pub fn time(field: &str, timestamp: prost_types::Timestamp) -> Result<Time, Violation> {
    let prost_types::Timestamp { seconds, nanos } = timestamp;
    let fraction = u64::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let Some(fraction) = fraction.filter(|_| TIMESTAMP_SECONDS.contains(&seconds)) else {
        let rule = "must lie in the years 1 to 9999, with nanos from 0 to 999999999";
        return Err(Violation::new(field, rule));
    };
    let nanos = u64::try_from(seconds)
        .map_or(0, |seconds| seconds.saturating_mul(1_000_000_000).saturating_add(fraction));
    Ok(Time::from_nanos(nanos))
}

pub(super) fn span(duration: prost_types::Duration) -> Span {
    let prost_types::Duration { seconds, nanos } = duration;
    Span { seconds, nanos }
}

fn malformed_id(field: &str, error: &JobIdError) -> Violation {
    Violation::new(field, error.to_string())
}

fn state_kind(state: api::JobState) -> Option<StateKind> {
    match state {
        api::JobState::Unspecified => None,
        api::JobState::Queued => Some(StateKind::Queued),
        api::JobState::Running => Some(StateKind::Running),
        api::JobState::Succeeded => Some(StateKind::Succeeded),
        api::JobState::Failed => Some(StateKind::Failed),
        api::JobState::Cancelled => Some(StateKind::Cancelled),
        api::JobState::TimedOut => Some(StateKind::TimedOut),
        api::JobState::Lost => Some(StateKind::Lost),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_types::Timestamp;

    use super::*;
    use crate::{job::SPAN_MAX, service::convert};

    #[test]
    fn a_filter_arrives_whole() {
        let id = JobId::MAX.to_string();
        let converted = filter(api::JobFilter {
            job_ids: vec![id.clone(), id],
            states: vec![1, 0, 7],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            created_after: Some(Timestamp { seconds: 1, nanos: 5 }),
            created_before: Some(Timestamp { seconds: -9, nanos: 0 }),
            owner: "uid:1".to_owned(),
        });
        let expected = JobFilter {
            job_ids: [JobId::MAX].into(),
            states: [StateKind::Queued, StateKind::Lost].into(),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            created_after: Some(Time::from_nanos(1_000_000_005)),
            created_before: Some(Time::from_nanos(0)),
            owner: Some("uid:1".to_owned()),
        };
        assert_eq!(converted, Ok(expected));
        assert_eq!(filter(api::JobFilter::default()), Ok(JobFilter::default()));
    }

    #[test]
    fn all_faults_of_a_filter_are_told_with_their_fields() {
        let violations = filter(api::JobFilter {
            job_ids: vec![JobId::MAX.to_string(), "../x".to_owned()],
            states: vec![99],
            labels: [("A".to_owned(), String::new())].into(),
            created_after: Some(Timestamp { seconds: 0, nanos: -1 }),
            created_before: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
            owner: "x".repeat(PRINCIPAL_BYTES_MAX + 1),
        })
        .unwrap_err();
        let fields: Vec<_> = violations.iter().map(|fault| fault.field.as_str()).collect();
        let expected = [
            "filter.job_ids[1]",
            "filter.states[0]",
            r#"filter.labels["A"]"#,
            "filter.created_after",
            "filter.created_before",
            "filter.owner",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_request_names_a_thousand_ids_and_no_more() {
        let ids = |count| vec![JobId::MAX.to_string(); count];
        assert_eq!(job_ids("job_ids", &ids(IDS_LEN_MAX)).unwrap().len(), IDS_LEN_MAX);
        assert_eq!(job_ids("job_ids", &ids(IDS_LEN_MAX + 1)).unwrap_err()[0].field, "job_ids");
        let bad = vec!["x".to_owned(); IDS_LEN_MAX];
        assert_eq!(job_ids("job_ids", &bad).unwrap_err().len(), FAULTY_IDS_MAX);
    }

    #[test]
    fn what_is_no_id_is_refused_before_it_comes_near_a_path() {
        for bad in ["", "../x", "../../../../../../../etc/x", "0123\0", "ABCD", "01\u{e9}23"] {
            assert_eq!(job_id("job_id", bad).unwrap_err().field, "job_id");
            assert_eq!(job_id_prefix("job_id", bad).unwrap_err().field, "job_id");
        }
        assert!(job_id("job_id", "0123").is_err());
        assert!(job_id_prefix("job_id", "0123").is_ok());
    }

    #[test]
    fn limits_on_waiting_and_silence_have_their_ranges() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let most = SPAN_MAX.as_secs().cast_signed();
        assert_eq!(wait_limit("f", None), Ok(None));
        assert_eq!(wait_limit("f", seconds(0)), Ok(Some(Duration::ZERO)));
        assert_eq!(stop_grace_period("f", seconds(most)), Ok(Some(SPAN_MAX)));
        assert!(wait_limit("f", seconds(most + 1)).is_err());
        assert!(stop_grace_period("f", seconds(-1)).is_err());
        assert_eq!(heartbeat_interval("f", None), Ok(HEARTBEAT_DEFAULT));
        assert_eq!(heartbeat_interval("f", seconds(3600)), Ok(HEARTBEAT_MAX));
        assert!(heartbeat_interval("f", seconds(3601)).is_err());
        assert!(heartbeat_interval("f", seconds(0)).is_err());
    }

    proptest! {
        #[test]
        fn times_and_durations_survive_the_wire(nanos: u64, span in 0..=SPAN_MAX.as_nanos()) {
            let now = Time::from_nanos(nanos);
            prop_assert_eq!(time("f", convert::timestamp(now)), Ok(now));
            let span = Duration::from_nanos_u128(span);
            prop_assert_eq!(duration_in("f", convert::duration(span), &any_span()), Ok(span));
        }

        #[test]
        fn no_timestamp_makes_the_conversion_panic(seconds: i64, nanos: i32) {
            let is_second = TIMESTAMP_SECONDS.contains(&seconds);
            let is_good = is_second && (0..1_000_000_000).contains(&nanos);
            prop_assert_eq!(time("f", Timestamp { seconds, nanos }).is_ok(), is_good);
        }
    }
}
