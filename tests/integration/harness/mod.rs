//! What tests share: a service of their own, its calls, and looks at processes and files.

mod calls;
mod client;
mod confined;
mod connect;
mod daemon;
pub(crate) mod frames;
mod output;
mod process;
mod refusal;
mod spec;
mod stored;
pub(crate) mod tls;
mod token;
mod watching;

use std::time::Duration;

pub(crate) use calls::JobFacts;
pub(crate) use client::ClientEnd;
pub(crate) use confined::{STRANGER, daemon_as, is_root, prints, set_mode, started_by, status_of};
pub(crate) use daemon::{Daemon, Setup, serve_to_end};
pub(crate) use output::{Output, StreamsOf, collect};
pub(crate) use process::{
    carriers, children_of, continue_process, is_alive, kernel_tells_exits, kill_process, name_of,
    state_of, stop_process,
};
pub(crate) use refusal::{Refused, refused};
pub(crate) use spec::{argv, millis, pairs, seconds, shell};
pub(crate) use stored::stored;
pub(crate) use token::{
    Api, Bearer, bearer, ended_job, over_tcp, token, token_command, verdict, with_tokens,
};
pub(crate) use watching::Watching;

/// How long anything may take before a test gives up. Far more than it ever takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long apart a condition that nobody announces is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What `future` gives, which must be before the deadline.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = tokio::time::timeout(DEADLINE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Looks until there is something, which must be before the deadline.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    within(what, looking).await
}
