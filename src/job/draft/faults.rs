//! The faults of one request, collected so that a caller learns all of them at once.

use super::Violation;

/// The most faults that are told of one request.
pub(super) const VIOLATIONS_MAX: usize = 100;
const KEY_CHARS_MAX: usize = 64;

/// Collects faults, at most `VIOLATIONS_MAX`; those after them are left out.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Violation>);

impl Faults {
    pub(super) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.push(Violation::new(field, description));
    }

    pub(super) fn push(&mut self, violation: Violation) {
        if !self.is_full() {
            self.0.push(violation);
        }
    }

    /// Whether further faults would be left out, so that looking for them is vain.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= VIOLATIONS_MAX
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.0
    }
}

/// The path of an entry of a map, for example `spec.env["A\nB"]`; a long key is cut.
pub(super) fn entry(field: &str, key: &str) -> String {
    let cut = key.chars().nth(KEY_CHARS_MAX).map_or("", |_| "…");
    let head: String = key.chars().take(KEY_CHARS_MAX).collect();
    format!("{field}[\"{}{cut}\"]", head.escape_debug())
}

/// The path of an element of a list, for example `spec.argv[3]`.
pub(super) fn element(field: &str, index: usize) -> String {
    format!("{field}[{index}]")
}
