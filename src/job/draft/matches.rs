//! The bounds of patterns to look for in the output.

use std::collections::BTreeSet;

use crate::job::output_match::{MatchStream, OutputMatch};

use super::faults::{Faults, element};

const MATCHES_LEN_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 1024;

/// Adds the faults of `matches`, each at `spec.output_matches[N].FIELD`.
pub(super) fn check_into(matches: &[OutputMatch], merge_output: bool, faults: &mut Faults) {
    let field = "spec.output_matches";
    if matches.len() > MATCHES_LEN_MAX {
        let count = matches.len();
        faults.add(field, format!("has {count} elements; at most {MATCHES_LEN_MAX} are allowed"));
    }
    let mut names = BTreeSet::new();
    for (index, one) in matches.iter().take(MATCHES_LEN_MAX).enumerate() {
        let OutputMatch { name, pattern: _, literal: _, stream, once: _ } = one;
        let field = |name: &str| format!("{}.{name}", element(field, index));
        if !is_name(name) {
            faults.add(field("name"), "must match [A-Za-z0-9._-]{1,64}");
        } else if !names.insert(name) {
            faults.add(field("name"), "stands before as well; each needs a name of its own");
        }
        if let Some(fault) = pattern_fault(one) {
            faults.add(field("pattern"), fault);
        }
        if merge_output && *stream == MatchStream::Stderr {
            let fault = "never brings anything, as merge_output is set; leave one of the two out";
            faults.add(field("stream"), fault);
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_good)
}

fn pattern_fault(one: &OutputMatch) -> Option<String> {
    let length = one.pattern.len();
    if length == 0 {
        return Some("must not be empty".to_owned());
    }
    if length > PATTERN_BYTES_MAX {
        return Some(format!("has {length} bytes; at most {PATTERN_BYTES_MAX} are allowed"));
    }
    if one.literal && one.pattern.contains('\n') {
        return Some("holds a line break, but a match lies within a line".to_owned());
    }
    one.compile().err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, pattern: &str) -> OutputMatch {
        OutputMatch { name: name.to_owned(), pattern: pattern.to_owned(), ..OutputMatch::default() }
    }

    fn fields(matches: &[OutputMatch]) -> Vec<String> {
        let mut faults = Faults::default();
        check_into(matches, true, &mut faults);
        faults.into_violations().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn each_fault_of_a_pattern_is_told_at_its_field() {
        let at = |index: usize, field: &str| format!("spec.output_matches[{index}].{field}");
        let long_name = "n".repeat(NAME_BYTES_MAX + 1);
        let text = |pattern| OutputMatch { literal: true, ..named("ok", pattern) };
        for (faulty, field) in [
            (named("", "a"), "name"),
            (named("a b", "a"), "name"),
            (named(&long_name, "a"), "name"),
            (named("ok", ""), "pattern"),
            (named("ok", &"a".repeat(PATTERN_BYTES_MAX + 1)), "pattern"),
            (named("ok", "(a"), "pattern"),
            (text("a\nb"), "pattern"),
            (OutputMatch { stream: MatchStream::Stderr, ..named("ok", "a") }, "stream"),
        ] {
            assert_eq!(fields(&[named("first", "a"), faulty]), [at(1, field)]);
        }
        assert_eq!(fields(&[named("twice", "a"), named("twice", "b")]), [at(1, "name")]);
        let good = [named(&long_name[1..], &"a".repeat(PATTERN_BYTES_MAX)), text("(a")];
        assert!(fields(&good).is_empty());
    }

    #[test]
    fn no_more_patterns_than_the_bound_are_taken() {
        let all: Vec<_> = (0..=MATCHES_LEN_MAX).map(|n| named(&format!("n{n}"), "a")).collect();
        assert_eq!(fields(&all), ["spec.output_matches"]);
        assert!(fields(&all[1..]).is_empty());
    }
}
