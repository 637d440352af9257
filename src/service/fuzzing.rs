//! Fuzz targets of what comes over the wire: messages, tokens, and text mode's way back.

#![expect(clippy::expect_used, reason = "a target tells what is wrong by panicking")]

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use prost::Message;
use tonic::Status;

use super::{
    convert::{self, OutputFacts},
    read,
    status::Refusal,
    text::{TextDecoder, split_character},
};
use crate::{
    api,
    job::{Job, Spec, Time, Violation, fuzzing::LIMITS},
    store::fuzzing::{accepted, survives},
};

pub(crate) use super::watch::fuzzing::resume_token;

/// The most bytes of trailers that a refusal may take: clients refuse more than 8 KiB.
const TRAILERS_BYTES_MAX: usize = 8 * 1024;
/// The most faults that a refusal tells.
const VIOLATIONS_MAX: usize = 100;

/// A refusal names faults and fits the trailers of a call.
fn check_refusal(violations: Vec<Violation>) {
    assert!((1..=VIOLATIONS_MAX).contains(&violations.len()));
    let status = Status::from(Refusal::from(violations));
    assert!(!status.message().is_empty());
    assert!(status.message().len() + status.details().len() * 4 / 3 < TRAILERS_BYTES_MAX);
}

/// A spec of the wire is refused with its faults, or survives the disk and the way back.
pub(crate) fn job_spec(data: &[u8]) {
    let Ok(message) = api::JobSpec::decode(data) else { return };
    match convert::draft(message).check(&LIMITS) {
        Err(violations) => check_refusal(violations),
        Ok((spec, _, _)) => {
            survives(spec.clone());
            let job = Job::new(Arc::new(accepted(spec.clone())));
            let told = convert::job(&job, &OutputFacts::default());
            let told = api::Job::decode(&*told.encode_to_vec()).expect("a reply is readable");
            let again = convert::draft(told.spec.unwrap_or_default()).check(&LIMITS);
            let (again, _, _) = again.expect("what is told of a spec is a spec");
            // Secrets and input are never told.
            let without = Spec { secret_keys: Vec::new(), stdin_bytes: 0, ..spec };
            assert_eq!(again, without);
        }
    }
}

/// A filter is refused with its faults or holds what it says; each of its tokens is its own.
pub(crate) fn list_request(data: &[u8]) {
    let Ok(api::ListRequest { filter, page_token, .. }) = api::ListRequest::decode(data) else {
        return;
    };
    let filter = filter.unwrap_or_default();
    let mark = read::filter_mark(&filter);
    assert_eq!(read::filter_mark(&filter.clone()), mark);
    page_token_of(&page_token, mark);
    let ids = filter.job_ids.len();
    match convert::filter(filter) {
        Ok(filter) => assert!(filter.job_ids.len() <= ids),
        Err(violations) => check_refusal(violations),
    }
}

/// A page token stands for one place, with its own filter only.
pub(crate) fn page_token(data: &[u8]) {
    for mark in [0, 0xffff_ffff] {
        page_token_of(&BASE64_URL_SAFE_NO_PAD.encode(data), mark);
        page_token_of(&String::from_utf8_lossy(data), mark);
    }
}

fn page_token_of(token: &str, mark: u32) {
    let Ok(id) = read::parse_page_token(token, mark) else { return };
    assert_eq!(read::parse_page_token(&read::page_token_after(id, mark), mark), Ok(id));
    assert!(read::parse_page_token(token, mark ^ 1).is_err());
}

/// Times, durations and ids of other requests are refused by their field or within their range.
pub(crate) fn other_requests(data: &[u8]) {
    if let Ok(api::TailLogRequest { start: Some(start), heartbeat_interval, .. }) =
        api::TailLogRequest::decode(data)
    {
        if let api::tail_log_request::Start::SinceTime(given) = start
            && let Ok(time) = convert::time("since_time", given)
        {
            let told = convert::timestamp(time);
            assert_eq!(convert::time("since_time", told), Ok(time));
            assert!(told == given || given.seconds < 0 || time == Time::from_nanos(u64::MAX));
        }
        let _ = convert::heartbeat_interval("heartbeat_interval", heartbeat_interval);
    }
    if let Ok(api::WaitRequest { job_id, timeout, .. }) = api::WaitRequest::decode(data) {
        let _ = convert::job_id_prefix("job_id", &job_id);
        if let Ok(Some(limit)) = convert::wait_limit("timeout", timeout) {
            assert_eq!(timeout, Some(convert::duration(limit)));
        }
    }
    if let Ok(api::CancelRequest { reason, grace_period, .. }) = api::CancelRequest::decode(data) {
        let fault = crate::job::check_stop_reason("reason", &reason);
        assert!(fault.is_some() || !reason.contains('\0'));
        if let Ok(Some(grace)) = convert::stop_grace_period("grace_period", grace_period) {
            assert_eq!(grace_period, Some(convert::duration(grace)));
        }
    }
}

/// Text mode reads like the whole wherever the bytes are cut, and offsets cover them.
pub(crate) fn text(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let mut decoder = TextDecoder::default();
    let (mut told, mut at) = (String::new(), 0);
    let mut pieces = Vec::new();
    for (number, part) in bytes.chunks(usize::from(step % 9) + 1).enumerate() {
        let offset = number * (usize::from(step % 9) + 1);
        pieces.extend(decoder.push(offset as u64, part));
        assert!(decoder.held_bytes() < 4);
    }
    pieces.extend(decoder.finish());
    for piece in pieces {
        assert_eq!(piece.offset, at);
        assert!(piece.end_offset > at && !piece.text.is_empty());
        at = piece.end_offset;
        told += &piece.text;
    }
    assert_eq!(at, bytes.len() as u64);
    assert_eq!(told, String::from_utf8_lossy(bytes));
    for cut in 0..=bytes.len() {
        if let Some(split) = split_character(&bytes[..cut], &bytes[cut..]) {
            let range = cut - split.bytes_before..cut + split.bytes_after;
            assert!(str::from_utf8(&bytes[range]).is_ok_and(|text| text.chars().count() == 1));
        }
    }
}
