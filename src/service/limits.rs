//! The bounds that the settings and the host give the service.

use std::time::Duration;

/// Bounds of the service, of which callers may see most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most jobs that run at once.
    pub running_max: u64,
    /// The most jobs that wait.
    pub queued_max: u64,
    /// The longest that Wait waits.
    pub wait_max: Duration,
    /// The most streams at once.
    pub streams_max: u64,
    /// The most streams of one principal at once.
    pub streams_per_principal_max: u64,
    /// The most streams at once that may read logs; one principal has at most half of them.
    pub logs_max: u64,
    /// The largest request message in bytes.
    pub request_bytes_max: u64,
}
