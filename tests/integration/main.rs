//! Drives the real binary over gRPC, as a caller would: one promise a test.
//!
//! Nothing here reaches into the service: what a test knows, it knows from a reply, from the
//! documented files of the task directory, or from `/proc`.
#![cfg(test)]

mod harness;

mod access;
mod bad_requests;
mod basics;
mod bodies;
mod broken;
mod cancel;
mod capabilities;
mod change;
mod cli_credentials;
mod cli_reconnect;
mod cli_terminal;
mod confine;
mod connections;
mod crowds;
mod deaths;
mod delete;
mod drain;
mod environment;
#[cfg(feature = "faults")]
mod failing_calls;
#[cfg(feature = "faults")]
mod fault_points;
mod fixtures;
mod fixtures_v2;
mod inbox;
mod kill;
mod large_answers;
mod launch;
mod leftovers;
mod limits;
mod list;
mod lookup;
mod matches;
mod output_limits;
mod paths;
mod policy;
mod queue;
mod request_id;
mod rerun;
mod restart;
mod root;
mod secrets;
mod storm;
mod strangers;
mod streams;
mod tail;
mod tail_follow;
mod tls;
mod tls_reload;
mod tokens;
mod wait;
mod watch;
mod watch_files;
mod watch_matches;
mod watch_output;
mod watch_resume;
mod watch_rounds;
