//! The bounds of single values: texts, variables, labels, signals.
//!
//! No description repeats a value: it may be secret, and it may be long.

use std::collections::BTreeMap;

use super::{
    Violation,
    faults::{Faults, element, entry},
};

pub(super) const ARGV_LEN_MAX: usize = 4096;
/// Of one argument, a script, or the value of a variable.
pub(super) const TEXT_BYTES_MAX: usize = 128 * 1024;
pub(super) const PATH_BYTES_MAX: usize = 4096;
pub(super) const VARIABLES_LEN_MAX: usize = 1024;
pub(super) const ENV_FILES_LEN_MAX: usize = 16;
pub(super) const LABELS_LEN_MAX: usize = 32;
pub(super) const LABEL_KEY_BYTES_MAX: usize = 63;
pub(super) const LABEL_VALUE_BYTES_MAX: usize = 256;
pub(super) const DISPLAY_NAME_BYTES_MAX: usize = 200;
pub(super) const SIGNAL_MAX: i32 = 64;
const STOP_REASON_BYTES_MAX: usize = 200;
const REQUEST_ID_LEN_MAX: usize = 128;
/// Begins the names of the variables that the service itself sets.
pub(super) const OWN_PREFIX: &str = "JOBWARDEN_";

/// The faults of `labels`, each at `PREFIX["KEY"]`.
pub fn check_labels(prefix: &str, labels: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut faults = Faults::default();
    labels_into(prefix, labels, &mut faults);
    faults.into_violations()
}

/// The faults of environment variables, each at `PREFIX["KEY"]`.
pub fn check_variables(prefix: &str, variables: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut faults = Faults::default();
    variables_into(prefix, variables, &mut faults);
    faults.into_violations()
}

/// What is wrong with a request id, if anything. An empty one is: leave it out instead.
pub fn check_request_id(field: &str, id: &str) -> Option<Violation> {
    let is_good =
        (1..=REQUEST_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    (!is_good).then(|| {
        let rule = "must have 1 to 128 printable ASCII characters without spaces";
        Violation::new(field, rule)
    })
}

/// The number of the signal, or the fault at `field`; zero gives `default`.
pub fn check_signal(field: &str, signal: i32, default: i32) -> Result<i32, Violation> {
    match signal {
        0 => Ok(default),
        32 | 33 => {
            Err(Violation::new(field, "is a signal that the C library keeps for itself; choose 34"))
        }
        1..=SIGNAL_MAX => Ok(signal),
        _ => Err(Violation::new(field, "must be the number of a signal, 1 to 64; zero means 15")),
    }
}

/// What is wrong with the reason that a caller gives for stopping a job, if anything.
pub fn check_stop_reason(field: &str, reason: &str) -> Option<Violation> {
    text_fault(reason, STOP_REASON_BYTES_MAX).map(|fault| Violation::new(field, fault))
}

pub(super) fn labels_into(field: &str, labels: &BTreeMap<String, String>, faults: &mut Faults) {
    if labels.len() > LABELS_LEN_MAX {
        faults.add(
            field,
            format!("has {} pairs; at most {LABELS_LEN_MAX} are allowed", labels.len()),
        );
    }
    for (key, value) in labels {
        if faults.is_full() {
            return;
        }
        if !is_label_key(key) {
            let rule = "its key must match [a-z][a-z0-9._/-]{0,62}";
            faults.add(entry(field, key), rule);
        }
        if let Some(fault) = text_fault(value, LABEL_VALUE_BYTES_MAX) {
            faults.add(entry(field, key), format!("its value {fault}"));
        }
    }
}

pub(super) fn variables_into(
    field: &str,
    variables: &BTreeMap<String, String>,
    faults: &mut Faults,
) {
    if variables.len() > VARIABLES_LEN_MAX {
        let count = variables.len();
        faults.add(field, format!("has {count} pairs; at most {VARIABLES_LEN_MAX} are allowed"));
    }
    for (key, value) in variables {
        if faults.is_full() {
            return;
        }
        if !is_variable_name(key) {
            faults.add(entry(field, key), "its name must match [A-Za-z_][A-Za-z0-9_]*");
        } else if key.starts_with(OWN_PREFIX) {
            let rule = format!("names that begin with {OWN_PREFIX} are set by the service only");
            faults.add(entry(field, key), rule);
        }
        if let Some(fault) = text_fault(value, TEXT_BYTES_MAX) {
            faults.add(entry(field, key), format!("its value {fault}"));
        }
    }
}

pub(super) fn env_files_into(field: &str, files: &[String], faults: &mut Faults) {
    if files.len() > ENV_FILES_LEN_MAX {
        let count = files.len();
        faults.add(field, format!("has {count} elements; at most {ENV_FILES_LEN_MAX} are allowed"));
    }
    for (index, file) in files.iter().enumerate() {
        if faults.is_full() {
            return;
        }
        if let Some(fault) = path_fault(file) {
            faults.add(element(field, index), fault);
        }
    }
}

pub(super) fn display_name_fault(name: &str) -> Option<String> {
    text_fault(name, DISPLAY_NAME_BYTES_MAX).or_else(|| {
        let has_control = name.chars().any(char::is_control);
        has_control.then(|| "must not hold control characters".to_owned())
    })
}

pub(super) fn path_fault(path: &str) -> Option<String> {
    let is_absolute = path.starts_with('/');
    text_fault(path, PATH_BYTES_MAX)
        .or_else(|| (!is_absolute).then(|| "must be an absolute path, beginning with /".to_owned()))
}

pub(super) fn text_fault(text: &str, bytes_max: usize) -> Option<String> {
    if text.len() > bytes_max {
        return Some(format!("has {} bytes; at most {bytes_max} are allowed", text.len()));
    }
    text.contains('\0').then(|| "must not hold a NUL character".to_owned())
}

pub(super) fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn is_label_key(key: &str) -> bool {
    let is_later = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'.' | b'_' | b'/' | b'-')
    };
    let mut bytes = key.bytes();
    key.len() <= LABEL_KEY_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(is_later)
}
