//! Specs in few words.

use std::{collections::HashMap, time::Duration};

use jobwarden::api::JobSpec;
use prost_types::Duration as Span;

/// A job that runs a program.
pub(crate) fn argv(words: &[&str]) -> JobSpec {
    let argv = words.iter().map(ToString::to_string).collect();
    JobSpec { argv, ..JobSpec::default() }
}

/// A job that runs a script.
pub(crate) fn shell(script: &str) -> JobSpec {
    JobSpec { shell: script.to_owned(), ..JobSpec::default() }
}

/// A map with these pairs.
pub(crate) fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> HashMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A span of whole seconds, as fields have it.
#[expect(clippy::unnecessary_wraps, reason = "fields that hold a span are optional")]
pub(crate) fn seconds(seconds: i64) -> Option<Span> {
    Some(Span { seconds, nanos: 0 })
}

/// A span of milliseconds, as fields have it.
#[expect(clippy::unnecessary_wraps, reason = "fields that hold a span are optional")]
pub(crate) fn millis(millis: u64) -> Option<Span> {
    Some(Duration::from_millis(millis).try_into().expect("a small span fits"))
}
