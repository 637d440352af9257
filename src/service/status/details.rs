//! What a refusal carries beside its code: the messages and the `google.rpc` details.
//!
//! All of it travels in headers, of which many clients take no more than 8 KiB in all, in
//! base 64. So every part has a bound, and what does not fit is counted.

use std::{collections::HashMap, time::Duration};

use tonic::metadata::{AsciiMetadataKey, MetadataMap};
use tonic_types::ErrorDetails;

use super::{CANDIDATES_MAX, DOMAIN, Refusal, ResumeAt};
use crate::{
    access::Role,
    job::{JobId, Violation},
};

const JOB_TYPE: &str = "jobwarden.v1.Job";
/// The most bytes of all violations of one status together.
const VIOLATIONS_BYTES_MAX: usize = 2560;
/// The most bytes of one text among the details.
const TEXT_BYTES_MAX: usize = 400;
/// The most names of secrets that a message lists.
const KEYS_IN_MESSAGE_MAX: usize = 5;
/// What a violation costs in the details beyond its texts, at most.
const VIOLATION_FRAME_BYTES: usize = 10;
const DISK_RETRY: Duration = Duration::from_secs(10);
const DRAIN_RETRY: Duration = Duration::from_secs(1);
const STREAMS_RETRY: Duration = Duration::from_secs(5);
const AWAY_RETRY: Duration = Duration::from_secs(1);
const UNDER_WAY_RETRY: Duration = Duration::from_secs(1);

pub(super) fn ambiguous(prefix: &str, candidates: &[JobId]) -> String {
    let named = &candidates[..candidates.len().min(CANDIDATES_MAX)];
    format!("several jobs have ids that begin with {prefix}; give more of one of {}", list(named))
}

pub(super) fn bad_request(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is malformed".to_owned(),
        [one] => format!("{}: {}", one.field, one.description),
        [first, ..] => {
            let Violation { field, description, .. } = first;
            let count = violations.len();
            format!("{count} faults, listed in the details; the first is {field}: {description}")
        }
    }
}

pub(super) fn missing_secrets(id: JobId, keys: &[String]) -> String {
    let first = &keys[..keys.len().min(KEYS_IN_MESSAGE_MAX)];
    let names: Vec<String> = first.iter().map(|key| cut(key, 64)).collect();
    let more = if keys.len() > first.len() {
        format!(" and {} more", keys.len() - first.len())
    } else {
        String::new()
    };
    format!("job {id} had secrets, which are not kept; give secret_env {}{more}", names.join(", "))
}

pub(super) fn is_unsupported(violations: &[Violation]) -> bool {
    !violations.is_empty() && violations.iter().all(|violation| violation.unsupported)
}

pub(super) fn details(refusal: &Refusal) -> ErrorDetails {
    let mut details = ErrorDetails::new();
    details.set_error_info(refusal.reason(), DOMAIN, metadata(refusal));
    match refusal {
        Refusal::NotFound { id } | Refusal::RecordCorrupt { id, .. } => {
            details.set_resource_info(JOB_TYPE, cut(id, TEXT_BYTES_MAX), "", "");
        }
        Refusal::RequestIdReused { id, .. } | Refusal::NotOwner { id, .. } => {
            details.set_resource_info(JOB_TYPE, id.to_string(), "", "");
        }
        Refusal::Ambiguous { .. } => {
            details.add_bad_request_violation("job_id", "begins the ids of several jobs");
        }
        Refusal::BadRequest(violations) => add_violations(&mut details, violations),
        Refusal::TokenForeign => {
            details.add_bad_request_violation("resume_token", "comes from another store");
        }
        Refusal::TokenExpired { .. } => {
            details.add_bad_request_violation("resume_token", "its history is gone");
        }
        Refusal::OffsetBeyondEnd { stream, .. } => {
            let field = format!("offsets.{stream}");
            details.add_bad_request_violation(field, "lies beyond the end of the output");
        }
        Refusal::NotStarted { id } => add_precondition(&mut details, *id, "JOB_STARTED"),
        Refusal::Ended { id, .. } => add_precondition(&mut details, *id, "JOB_NOT_ENDED"),
        Refusal::Stopping { id } => add_precondition(&mut details, *id, "JOB_NOT_STOPPING"),
        Refusal::Active { id } => add_precondition(&mut details, *id, "JOB_ENDED"),
        Refusal::MissingSecrets { id, keys } => add_missing(&mut details, *id, keys),
        Refusal::QueueFull { limit, retry_after } => {
            let most = format!("at most {limit} jobs may wait");
            details.add_quota_failure_violation("max_queued_jobs", most);
            details.set_retry_info(Some(*retry_after));
        }
        Refusal::TooManyStreams { what, limit, .. } => {
            let most = format!("at most {limit} {what} may be open");
            details.add_quota_failure_violation("max_streams", most);
            details.set_retry_info(Some(STREAMS_RETRY));
        }
        Refusal::DiskFull => {
            details.set_retry_info(Some(DISK_RETRY));
        }
        Refusal::Draining { .. } => {
            details.set_retry_info(Some(DRAIN_RETRY));
        }
        Refusal::TooMuchUnderWay { bound, limit, .. } => {
            details.add_quota_failure_violation(*bound, format!("at most {limit} at once"));
            details.set_retry_info(Some(UNDER_WAY_RETRY));
        }
        Refusal::AnswerTooLarge { limit } => {
            details.add_quota_failure_violation("answer_bytes", format!("at most {limit}"));
        }
        Refusal::Unavailable { .. } | Refusal::TooSlow { .. } => {
            details.set_retry_info(Some(AWAY_RETRY));
        }
        Refusal::Quota { setting, limit, retry_after, .. } => {
            details.add_quota_failure_violation(*setting, format!("at most {limit}"));
            details.set_retry_info(Some(*retry_after));
        }
        Refusal::Unauthenticated(_)
        | Refusal::RoleRequired { .. }
        | Refusal::Unimplemented { .. }
        | Refusal::Internal { .. } => {}
    }
    details
}

/// The text, or as much of its beginning as fits in `bytes_max` with a mark that more follows.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

fn places(resume_at: &ResumeAt) -> Vec<(&'static str, String)> {
    match resume_at {
        ResumeAt::Unknown => Vec::new(),
        ResumeAt::Token(token) => vec![("resume_token", token.clone())],
        ResumeAt::Offsets([stdout, stderr]) => {
            vec![("stdout_offset", stdout.to_string()), ("stderr_offset", stderr.to_string())]
        }
    }
}

/// What stands in the trailers of the call besides the details: where a stream can go on, for
/// callers that do not read details.
pub(super) fn trailer(refusal: &Refusal) -> MetadataMap {
    let mut trailer = MetadataMap::new();
    if let Refusal::Draining { resume_at } = refusal {
        for (name, value) in places(resume_at) {
            let name = format!("jobwarden-{}", name.replace('_', "-"));
            // Tokens and numbers are plain text.
            if let (Ok(name), Ok(value)) = (name.parse::<AsciiMetadataKey>(), value.parse()) {
                trailer.insert(name, value);
            }
        }
    }
    trailer
}

/// The sentence about streams that are too many.
pub(super) fn too_many_streams(what: &str, limit: u64, of_principal: bool) -> String {
    let whose = if of_principal { "of yours " } else { "" };
    let served = if of_principal { "for one principal" } else { "in all" };
    format!(
        "{limit} {what} {whose}are open, the most that this server serves {served}; close some, \
         then try again"
    )
}

/// The sentence about requests that are too much together.
pub(super) fn too_much_under_way(bound: &str, limit: u64, of_principal: bool) -> String {
    let served = if of_principal { "for one principal" } else { "in all" };
    format!(
        "with this request {bound} would be more than {limit}, the most that this server holds \
         at once {served}; try again when others are done"
    )
}

fn metadata(refusal: &Refusal) -> HashMap<String, String> {
    let pairs = match refusal {
        Refusal::NotFound { id } => vec![("job_id", id.clone())],
        Refusal::Ambiguous { prefix, candidates } => {
            let named = &candidates[..candidates.len().min(CANDIDATES_MAX)];
            vec![("job_id", prefix.clone()), ("candidates", list(named))]
        }
        Refusal::BadRequest(violations) => vec![("violations", violations.len().to_string())],
        Refusal::RequestIdReused { request_id, id } => {
            vec![("request_id", request_id.clone()), ("job_id", id.to_string())]
        }
        Refusal::Ended { id, state } => {
            vec![("job_id", id.to_string()), ("state", state.name().to_owned())]
        }
        Refusal::NotStarted { id }
        | Refusal::Stopping { id }
        | Refusal::Active { id }
        | Refusal::NotOwner { id, .. }
        | Refusal::MissingSecrets { id, .. } => vec![("job_id", id.to_string())],
        Refusal::QueueFull { limit, .. } | Refusal::TooManyStreams { limit, .. } => {
            vec![("limit", limit.to_string())]
        }
        Refusal::Draining { resume_at } => places(resume_at),
        Refusal::TokenExpired { oldest } => vec![("oldest_token", oldest.clone())],
        Refusal::OffsetBeyondEnd { stream, offset, size } => vec![
            ("stream", (*stream).to_owned()),
            ("offset", offset.to_string()),
            ("size_bytes", size.to_string()),
        ],
        Refusal::RecordCorrupt { id, file, why } => {
            vec![("job_id", id.clone()), ("file", file.clone()), ("why", why.clone())]
        }
        Refusal::Unavailable { what } | Refusal::Unimplemented { what } => {
            vec![("what", (*what).to_owned())]
        }
        Refusal::RoleRequired { principal, role, call } => vec![
            ("principal", principal.clone()),
            ("role", role.name().to_owned()),
            ("required_role", Role::least_for(*call).name().to_owned()),
        ],
        Refusal::Quota { setting, limit, .. } => {
            vec![("setting", (*setting).to_owned()), ("limit", limit.to_string())]
        }
        Refusal::TooMuchUnderWay { bound, limit, .. } => {
            vec![("bound", (*bound).to_owned()), ("limit", limit.to_string())]
        }
        Refusal::AnswerTooLarge { limit } => {
            vec![("bound", "answer_bytes".to_owned()), ("limit", limit.to_string())]
        }
        Refusal::TooSlow { .. } => vec![("what", "the rest of the request".to_owned())],
        Refusal::DiskFull
        | Refusal::TokenForeign
        | Refusal::Unauthenticated(_)
        | Refusal::Internal { .. } => Vec::new(),
    };
    // A list of candidates is the longest, and bounded; nothing else comes near the bound.
    let bound = CANDIDATES_MAX * 28;
    pairs.into_iter().map(|(key, value)| (key.to_owned(), cut(&value, bound))).collect()
}

fn add_violations(details: &mut ErrorDetails, violations: &[Violation]) {
    let mut room = VIOLATIONS_BYTES_MAX;
    for Violation { field, description, unsupported: _ } in violations {
        let (field, description) = (cut(field, TEXT_BYTES_MAX), cut(description, TEXT_BYTES_MAX));
        let cost = field.len() + description.len() + VIOLATION_FRAME_BYTES;
        if cost > room {
            return;
        }
        room -= cost;
        details.add_bad_request_violation(field, description);
    }
}

fn add_missing(details: &mut ErrorDetails, id: JobId, keys: &[String]) {
    let mut room = VIOLATIONS_BYTES_MAX;
    for key in keys {
        let subject = cut(&format!("secret_env[\"{key}\"]"), TEXT_BYTES_MAX);
        let description = format!("give the value that job {id} had again");
        let cost = subject.len() + description.len() + 2 * VIOLATION_FRAME_BYTES;
        if cost > room {
            return;
        }
        room -= cost;
        details.add_precondition_failure_violation("SECRET_GIVEN", subject, description);
    }
}

fn add_precondition(details: &mut ErrorDetails, id: JobId, kind: &str) {
    let subject = format!("jobs/{id}");
    details.add_precondition_failure_violation(kind, subject, "the job must be in this state");
}

fn list(ids: &[JobId]) -> String {
    let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
