//! Durations as text: seconds with an `s`, as the JSON mapping of proto has them.

use std::time::Duration;

use crate::job::Span;

use super::record::{RecordError, wrong};

/// A duration as seconds with up to nine decimals and an `s`.
pub(super) fn seconds(span: Duration) -> String {
    let text = format!("{}.{:09}", span.as_secs(), span.subsec_nanos());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The fault of a member that is no duration.
pub(super) fn bad_span(member: &str) -> RecordError {
    wrong(member, "is not a duration like \"1.5s\"")
}

/// A duration that is not negative, if there is one.
pub(super) fn span(member: &str, text: Option<&str>) -> Result<Option<Duration>, RecordError> {
    let Some(text) = text else { return Ok(None) };
    let span = parse_span(text).ok_or_else(|| bad_span(member))?;
    let seconds = u64::try_from(span.seconds).map_err(|_| bad_span(member))?;
    let nanos = u32::try_from(span.nanos).map_err(|_| bad_span(member))?;
    Ok(Some(Duration::new(seconds, nanos)))
}

/// A duration of any sign from its text.
pub(super) fn parse_span(text: &str) -> Option<Span> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => (-1_i32, number),
        None => (1, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Span { seconds: i64::from(sign) * whole.parse::<i64>().ok()?, nanos: nanos * sign })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_the_proto_json_mapping_tells_them() {
        assert_eq!(seconds(Duration::from_millis(1_500)), "1.5s");
        assert_eq!(seconds(Duration::ZERO), "0s");
        assert_eq!(parse_span("-0.5s"), Some(Span { seconds: 0, nanos: -500_000_000 }));
        for text in ["1", "s", "1.s1", "1.0000000000s", "--1s", "+1s"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }
}
