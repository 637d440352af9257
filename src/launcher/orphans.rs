//! How processes ended that were left to the launcher by dead supervisors.
//!
//! A dead supervisor's child may be reaped before the supervisor is: its status waits here until
//! somebody asks for it.

use std::collections::VecDeque;

use crate::sys::process::{self, Ended, ExitReport, Resources};

/// The most statuses that wait.
const ORPHANS_MAX: usize = 4096;

/// A process: its number, and when it started in clock ticks since boot.
pub(super) type Identity = (i32, u64);

/// The statuses, oldest first.
#[derive(Debug, Default)]
pub(super) struct Orphans(VecDeque<(Identity, ExitReport)>);

impl Orphans {
    pub(super) fn note(&mut self, identity: Identity, report: ExitReport) {
        if self.0.len() >= ORPHANS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((identity, report));
    }

    pub(super) fn get(&self, identity: Identity) -> Option<ExitReport> {
        let found = self.0.iter().find(|(known, _)| *known == identity);
        found.map(|(_, report)| *report)
    }
}

/// What a zombie tells.
pub(super) fn report(
    pid: i32,
    ended: Ended,
    resources: Resources,
) -> Option<(Identity, ExitReport)> {
    let start_ticks = process::start_ticks_of(pid).ok()??;
    let storage_bytes = process::storage_bytes(pid);
    Some(((pid, start_ticks), ExitReport { ended, resources, storage_bytes }))
}
