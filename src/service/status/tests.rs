//! Tests of the statuses: a table of all refusals, and the bound on what travels in headers.

use proptest::prelude::*;

use super::*;

/// What a status may take in headers; clients take 8 KiB with everything else.
const HEADER_BYTES_MAX: usize = 7 * 1024;

fn id() -> JobId {
    JobId::MAX
}

fn supported(field: &str) -> Violation {
    Violation::new(field, "must be better")
}

type Row = (Refusal, Code, &'static str);

fn precondition_rows() -> Vec<Row> {
    use Code::{FailedPrecondition, OutOfRange};
    let secrets = Refusal::MissingSecrets { id: id(), keys: vec!["TOKEN".to_owned()] };
    let ended = Refusal::Ended { id: id(), state: StateKind::Failed };
    let expired = Refusal::TokenExpired { oldest: "t1".to_owned() };
    let beyond = Refusal::OffsetBeyondEnd { stream: "stdout", offset: 9, size: 5 };
    vec![
        (Refusal::NotStarted { id: id() }, FailedPrecondition, "JOB_NOT_STARTED"),
        (ended, FailedPrecondition, "JOB_ENDED"),
        (Refusal::Stopping { id: id() }, FailedPrecondition, "JOB_ENDED"),
        (Refusal::Active { id: id() }, FailedPrecondition, "JOB_ACTIVE"),
        (secrets, FailedPrecondition, "INVALID_SPEC"),
        (expired, OutOfRange, "TOKEN_EXPIRED"),
        (beyond, OutOfRange, "OFFSET_BEYOND_END"),
    ]
}

fn access_rows() -> Vec<Row> {
    let principal = || "token:ci".to_owned();
    let role =
        Refusal::RoleRequired { principal: principal(), role: Role::Reader, call: Call::Exec };
    let owner = Refusal::NotOwner { id: id(), call: Call::Delete };
    let quota = Refusal::Quota {
        principal: principal(),
        setting: "max_jobs_per_minute",
        limit: 3,
        retry_after: Duration::from_secs(1),
    };
    let (bound, limit) = ("large_request_bytes", 4096);
    let under_way = |of_principal| Refusal::TooMuchUnderWay { bound, limit, of_principal };
    let slow = Refusal::TooSlow { grace: Duration::from_secs(30), bytes_per_second: 16_384 };
    vec![
        (under_way(true), Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        (under_way(false), Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        (slow, Code::Unavailable, "UNAVAILABLE"),
        (Refusal::AnswerTooLarge { limit: 1 << 20 }, Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        (Refusal::Unauthenticated(Denied::NoToken), Code::Unauthenticated, "UNAUTHENTICATED"),
        (role, Code::PermissionDenied, "ROLE_REQUIRED"),
        (owner, Code::PermissionDenied, "NOT_OWNER"),
        (quota, Code::ResourceExhausted, "QUOTA_EXCEEDED"),
    ]
}

fn rows() -> Vec<Row> {
    use Code::{InvalidArgument, ResourceExhausted, Unavailable};
    let unsupported = || Violation::unsupported("spec.retry");
    let text = str::to_owned;
    let ambiguous = Refusal::Ambiguous { prefix: text("01ab"), candidates: vec![id(); 30] };
    let reused = Refusal::RequestIdReused { request_id: text("r1"), id: id() };
    let full = Refusal::QueueFull { limit: 7, retry_after: Duration::from_secs(3) };
    let draining = Refusal::Draining { resume_at: ResumeAt::Token(text("t9")) };
    let corrupt = Refusal::RecordCorrupt {
        id: text("x"),
        file: text("jobs/x/spec.json"),
        why: text("empty"),
    };
    let mut rows = vec![
        (Refusal::NotFound { id: text("01ab") }, Code::NotFound, "JOB_NOT_FOUND"),
        (ambiguous, InvalidArgument, "AMBIGUOUS_JOB_ID"),
        (supported("spec.argv").into(), InvalidArgument, "INVALID_SPEC"),
        (unsupported().into(), InvalidArgument, "UNSUPPORTED"),
        (vec![unsupported(), supported("a")].into(), InvalidArgument, "INVALID_SPEC"),
        (Refusal::BadRequest(Vec::new()), InvalidArgument, "INVALID_SPEC"),
        (reused, Code::AlreadyExists, "REQUEST_ID_REUSED"),
        (full, ResourceExhausted, "QUEUE_FULL"),
        (
            Refusal::TooManyStreams { what: "streams", limit: 2, of_principal: true },
            ResourceExhausted,
            "TOO_MANY_STREAMS",
        ),
        (Refusal::DiskFull, Unavailable, "DISK_FULL"),
        (draining, Unavailable, "DRAINING"),
        (Refusal::Draining { resume_at: ResumeAt::Unknown }, Unavailable, "DRAINING"),
        (Refusal::Unavailable { what: "the launcher" }, Unavailable, "UNAVAILABLE"),
        (Refusal::TokenForeign, InvalidArgument, "TOKEN_FOREIGN"),
        (corrupt, Code::DataLoss, "RECORD_CORRUPT"),
        (Refusal::Unimplemented { what: "Rerun" }, Code::Unimplemented, "UNSUPPORTED"),
        (Refusal::Internal { doing: "reading" }, Code::Internal, "INTERNAL"),
    ];
    rows.extend(access_rows());
    rows.extend(precondition_rows());
    rows
}

/// What the status takes on the wire: the message percent-encoded, the details in base 64.
fn header_bytes(status: &Status) -> usize {
    let message: usize =
        status.message().bytes().map(|b| if (b' '..=b'~').contains(&b) { 1 } else { 3 }).sum();
    message + status.details().len().div_ceil(3) * 4
}

#[test]
fn every_refusal_has_its_code_reason_and_domain() {
    for (refusal, code, reason) in rows() {
        let status = Status::from(refusal.clone());
        assert_eq!(status.code(), code, "{refusal:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "jobwarden.v1"));
        assert!(!status.message().is_empty() && !status.message().contains('\n'));
        assert!(header_bytes(&status) < HEADER_BYTES_MAX, "{refusal:?}");
    }
}

#[test]
fn what_may_be_repeated_says_when() {
    for (refusal, code, _) in rows() {
        // That helps only with fewer jobs.
        let is_too_large = matches!(refusal, Refusal::AnswerTooLarge { .. });
        let retry = Status::from(refusal).get_details_retry_info();
        let is_repeatable =
            matches!(code, Code::Unavailable | Code::ResourceExhausted) && !is_too_large;
        assert_eq!(retry.is_some(), is_repeatable);
        assert!(retry.is_none_or(|retry| retry.retry_delay > Some(Duration::ZERO)));
    }
}

#[test]
fn each_family_of_codes_has_its_details() {
    for (refusal, code, _) in rows() {
        let is_empty = refusal == Refusal::BadRequest(Vec::new());
        let details = Status::from(refusal).get_error_details();
        if matches!(code, Code::InvalidArgument | Code::OutOfRange) && !is_empty {
            assert!(!details.bad_request().unwrap().field_violations.is_empty());
        }
        assert_eq!(details.precondition_failure().is_some(), code == Code::FailedPrecondition);
        assert_eq!(details.quota_failure().is_some(), code == Code::ResourceExhausted);
        let has_resource = matches!(code, Code::NotFound | Code::AlreadyExists | Code::DataLoss);
        // A role is asked for before the job is looked for.
        let may_have = code == Code::PermissionDenied;
        assert!(may_have || details.resource_info().is_some() == has_resource);
    }
}

#[test]
fn metadata_tells_a_program_what_the_message_tells_a_person() {
    let metadata =
        |refusal: Refusal| Status::from(refusal).get_details_error_info().unwrap().metadata;
    assert_eq!(metadata(Refusal::TokenExpired { oldest: "t1".to_owned() })["oldest_token"], "t1");
    let draining = Refusal::Draining { resume_at: ResumeAt::Token("t9".to_owned()) };
    assert_eq!(metadata(draining)["resume_token"], "t9");
    let beyond = Refusal::OffsetBeyondEnd { stream: "stderr", offset: 9, size: 5 };
    assert_eq!(metadata(beyond)["size_bytes"], "5");
}

#[test]
fn an_ambiguous_prefix_names_up_to_twenty_whole_candidates() {
    let refusal = Refusal::Ambiguous { prefix: "0123".to_owned(), candidates: vec![id(); 30] };
    let status = Status::from(refusal);
    let last = id().to_string();
    assert_eq!(status.message().matches(&last).count(), CANDIDATES_MAX);
    assert!(status.message().ends_with(&last));
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["candidates"].matches(&last).count(), CANDIDATES_MAX);
}

#[test]
fn violations_keep_their_fields_and_those_that_do_not_fit_are_counted() {
    let violations: Vec<_> = (0..100).map(|n| supported(&format!("spec.argv[{n}]"))).collect();
    let status = Status::from(Refusal::from(violations));
    let told = status.get_details_bad_request().unwrap().field_violations;
    assert!(told.len() > 20 && told.len() <= 100);
    assert_eq!(told[3].field, "spec.argv[3]");
    assert_eq!(status.get_details_error_info().unwrap().metadata["violations"], "100");
    assert!(status.message().starts_with("100 faults"));
}

#[test]
fn a_fault_of_the_service_tells_nothing_about_it() {
    let status = Status::from(Refusal::Internal { doing: "reading a job" });
    assert!(!status.message().contains('/'));
    assert!(status.get_details_error_info().unwrap().metadata.is_empty());
}

proptest! {
    #[test]
    fn no_refusal_outgrows_the_headers(
        texts in proptest::collection::vec(".{0,200}", 1..40),
        long in "\u{1F600}{0,2000}",
    ) {
        let violations = texts.iter().map(|text| Violation::new(text, long.clone())).collect();
        let refusals = [
            Refusal::BadRequest(violations),
            Refusal::BadRequest(texts.iter().map(|text| supported(text)).collect()),
            Refusal::MissingSecrets { id: id(), keys: texts },
            Refusal::TokenExpired { oldest: long.clone() },
            Refusal::Draining { resume_at: ResumeAt::Token(long.clone()) },
            Refusal::RecordCorrupt { id: long.clone(), file: long.clone(), why: long },
        ];
        for refusal in refusals {
            let size = header_bytes(&refusal.into());
            prop_assert!(size < HEADER_BYTES_MAX, "{size}");
        }
    }
}
