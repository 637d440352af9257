//! The fuzz targets: one function for each parser that reads the disk or the wire.
//!
//! No part of the product: `tests/fuzz.rs` and the programs in `fuzz/` call it. A target takes
//! any bytes and panics if the parser does not keep its promise; what is only refused is fine.

use crate::{
    access::fuzzing as access,
    config::fuzzing as config,
    job::fuzzing as job,
    launch_message::{MESSAGE_BYTES_MAX, Notice, Request},
    server::fuzzing as server,
    service::fuzzing as service,
    store::fuzzing as store,
    supervisor::fuzzing as supervisor,
    sys::fuzzing as sys,
};

/// A target: what it is given stands for a file, a message or a text.
pub type Target = fn(&[u8]);

macro_rules! targets {
    ($($(#[$about:meta])* $name:ident = $target:expr;)*) => {
        /// Every target by the name of its folder in `fuzz/corpus`.
        pub const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $name)),*];

        $($(#[$about])*
        pub fn $name(data: &[u8]) {
            let target: Target = $target;
            target(data);
        })*
    };
}

targets! {
    /// The header `authorization`.
    authorization = access::authorization;
    /// A client certificate.
    certificate = server::certificate;
    /// The settings file.
    config = config::config;
    /// A spec dropped into the inbox.
    dropped_spec = store::dropped_spec;
    /// A file of variables.
    env_file = supervisor::env_file;
    /// A folder in the inbox: `spec.json` and `stdin`.
    inbox = store::inbox;
    /// A job's folder: spec, state, control, cancel, labels, timeout, kill.
    job_folder = store::job_folder;
    /// Ids and their prefixes.
    job_id = job::job_id;
    /// `JobSpec` on the wire.
    job_spec = service::job_spec;
    /// A segment of the journal: its first line, events, a torn end, `closed.json`.
    journal = store::journal;
    /// Single events of the journal.
    journal_event = store::journal_event;
    /// What service and launcher say to each other.
    launch_message = launch_message_target;
    /// `ListRequest` on the wire.
    list_request = service::list_request;
    /// Index, holes and both logs, after bytes that say how to read them.
    log_reader = store::log_reader;
    /// Texts of the kernel: meminfo, limits, status, passwd, mounts, cgroup.
    machine_facts = machine_facts_target;
    /// `matches.jsonl`.
    matches = store::matches;
    /// Other messages with times, durations and ids.
    other_requests = service::other_requests;
    /// `output.cut`.
    output_cut = store::output_cut;
    /// `output.index`.
    output_index = store::output_index;
    /// Tokens of List.
    page_token = service::page_token;
    /// A file in `requests/`.
    request_file = store::request_file;
    /// `cancel`, `labels.json`, `timeout.json`, `kill.*` and `control.jsonl`.
    requests = store::requests;
    /// Tokens of `WatchEvents`.
    resume_token = service::resume_token;
    /// One slot.
    slot = store::slot;
    /// `spec.json` of an accepted job.
    spec_json = store::spec_json;
    /// `state.jsonl`.
    state_record = store::state_record;
    /// Output as text.
    text = service::text;
    /// Times.
    time = job::time;
    /// The file of tokens.
    tokens_file = access::tokens_file;
}

/// A message survives its line.
fn launch_message_target(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(request) = text.parse::<Request>() {
        assert_eq!(request.to_string(), text);
    }
    if let Ok(notice) = text.parse::<Notice>() {
        assert_eq!(notice.to_string().parse(), Ok(notice));
        assert!(notice.to_string().len() <= MESSAGE_BYTES_MAX);
    }
}

fn machine_facts_target(data: &[u8]) {
    let [meminfo, limits, status, passwd, mounts, own] = job::parts(data);
    config::machine_facts([meminfo, limits, status, passwd]);
    sys::own_group(mounts, own);
}
