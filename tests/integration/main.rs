//! Drives the real binary over gRPC, as a caller would: one promise a test.
//!
//! Nothing here reaches into the service: what a test knows, it knows from a reply, from the
//! documented files of the task directory, or from `/proc`.
#![cfg(test)]
#![allow(
    clippy::default_trait_access,
    clippy::format_collect,
    clippy::items_after_statements,
    clippy::match_wild_err_arm,
    clippy::unnecessary_wraps,
    reason = "a test reads best as one story, with what it needs where it needs it"
)]

mod harness;

mod bad_requests;
mod basics;
mod broken;
mod cancel;
mod change;
mod deaths;
mod delete;
mod drain;
mod environment;
mod inbox;
mod kill;
mod launch;
mod leftovers;
mod limits;
mod list;
mod lookup;
mod queue;
mod request_id;
mod rerun;
mod restart;
mod root;
mod tail;
mod tail_follow;
mod wait;
mod watch;
