//! The main process of a job: a child of its supervisor, or of somebody else once a supervisor
//! has died and another has taken its place.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use crate::{
    job::ProcessIdentity,
    sys::{
        clock,
        process::{self, Ended, ExitReport, PidFd},
        spawn::Child,
    },
};

use super::report::{REPORT_BYTES_MAX, parse_report};

/// How long the status of a dead process that is another's child is waited for.
const REPORT_WAIT: Duration = Duration::from_secs(2);
/// How often it is asked for meanwhile.
const REPORT_PAUSE: Duration = Duration::from_millis(5);

/// The main process.
#[derive(Debug)]
pub(super) enum MainProcess {
    /// A child of this supervisor.
    Own(Child),
    /// A child of another process.
    Adopted(Adopted),
}

/// A process that another process reaps.
#[derive(Debug)]
pub(super) struct Adopted {
    identity: ProcessIdentity,
    /// `None` if it was gone before it was adopted.
    handle: Option<PidFd>,
    /// Where the launcher reports how it ended; `None` once nobody can.
    reports: Option<File>,
    report: Option<ExitReport>,
    /// When it was first seen dead without a report, on the boot clock.
    gone: Option<Duration>,
}

/// What is known of the end of a main process.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// It ended so.
    Known(ExitReport),
    /// It is gone, and nobody can say how it ended.
    Unknown,
}

impl MainProcess {
    /// A process of a job whose supervisor died. `reports` is where its parent may say how it
    /// ended; `held` is a handle that was opened while it surely lived.
    pub(super) fn adopted(
        identity: ProcessIdentity,
        held: Option<PidFd>,
        reports: Option<File>,
    ) -> io::Result<Self> {
        let handle = match held {
            Some(held) => Some(held),
            // Another boot has other processes.
            None if clock::boot_id()? != identity.boot_id => None,
            None => PidFd::open_exactly(identity.pid, identity.start_ticks)?,
        };
        let adopted = Adopted { identity, handle, reports, report: None, gone: None };
        Ok(Self::Adopted(adopted))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        match self {
            Self::Own(child) => child.pid,
            Self::Adopted(adopted) => adopted.identity.pid,
        }
    }

    /// What to poll for its end.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Own(child) => Some(child.handle.as_fd()),
            Self::Adopted(Adopted { gone: Some(_), .. }) => None,
            Self::Adopted(adopted) => adopted.handle.as_ref().map(|handle| handle.as_fd()),
        }
    }

    /// When to ask again how it ended, on the boot clock.
    pub(super) fn next_look(&self) -> Option<Duration> {
        match self {
            Self::Adopted(Adopted { gone: Some(_), .. }) => {
                Some(clock::since_boot() + REPORT_PAUSE)
            }
            Self::Own(_) | Self::Adopted(_) => None,
        }
    }

    /// Whether it has ended and it is not known yet how: whatever is asked for comes too late.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Adopted(Adopted { gone: Some(_), .. }))
    }

    /// Signals it; false if it is gone.
    pub(super) fn signal(&self, signal: i32) -> io::Result<bool> {
        match self {
            Self::Own(child) => child.handle.signal(signal),
            Self::Adopted(Adopted { handle: Some(handle), .. }) => handle.signal(signal),
            Self::Adopted(_) => Ok(false),
        }
    }

    /// How it ended; `None` while it runs.
    pub(super) fn fate(&mut self) -> io::Result<Option<Fate>> {
        match self {
            Self::Own(child) => {
                let peeked = process::peek_end(child.pid)?;
                Ok(peeked.map(|(ended, resources)| {
                    let storage_bytes = process::storage_bytes(child.pid);
                    Fate::Known(ExitReport { ended, resources, storage_bytes })
                }))
            }
            Self::Adopted(adopted) => Ok(adopted.fate()),
        }
    }

    /// Takes orphans of the job that are this process's children off the list.
    pub(super) fn reap_others(&self) -> io::Result<()> {
        let kept = match self {
            Self::Own(child) => child.pid,
            Self::Adopted(_) => 0,
        };
        process::reap_others(kept).map(drop)
    }

    /// Lets go of it once its end is recorded.
    pub(super) fn reap(&self) -> io::Result<()> {
        match self {
            Self::Own(child) => process::reap(child.pid).map(drop),
            Self::Adopted(_) => Ok(()),
        }
    }
}

impl Adopted {
    fn fate(&mut self) -> Option<Fate> {
        self.take_report();
        if let (None, Some(handle)) = (&self.report, &self.handle)
            && !handle.has_ended()
        {
            return None;
        }
        let reaped = self.handle.as_ref().and_then(PidFd::exit_status);
        // Its parent reports before it reaps it, and says more than the kernel.
        self.take_report();
        if self.report.is_none() {
            self.report = reaped.map(only_status);
        }
        if let Some(report) = self.report {
            return Some(Fate::Known(report));
        }
        let now = clock::since_boot();
        let gone = *self.gone.get_or_insert(now);
        let ProcessIdentity { pid, start_ticks, .. } = &self.identity;
        let zombie = process::zombie_status(*pid, *start_ticks);
        let has_waited = now >= gone + REPORT_WAIT;
        if let Some(ended) = zombie {
            // Its parent is slow, or does not know that it is one of ours.
            return has_waited.then(|| Fate::Known(only_status(ended)));
        }
        let may_come = self.handle.is_some() || self.reports.is_some();
        (!may_come || has_waited).then_some(Fate::Unknown)
    }

    fn take_report(&mut self) {
        let Some(reports) = &mut self.reports else { return };
        let mut line = [0; REPORT_BYTES_MAX];
        match reports.read(&mut line) {
            Ok(0) => self.reports = None,
            // It is written at once, so it is whole.
            Ok(length) => self.report = str::from_utf8(&line[..length]).ok().and_then(parse_report),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.reports = None,
        }
    }
}

fn only_status(ended: Ended) -> ExitReport {
    ExitReport { ended, resources: process::Resources::default(), storage_bytes: (0, 0) }
}
