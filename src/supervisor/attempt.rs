//! A running process watched to its end: output, limits, requests to stop, leftovers.
//!
//! Everything happens in one loop over one poll. What has ended is looked at before what is
//! asked for, so that an end seen before our signal stands as it is.

use std::{
    os::fd::AsFd as _,
    time::{Duration, SystemTime},
};

use crate::{
    job::{End, ExitStatus, StopCause},
    store::{JobRecord, StoreError, Stream, TimeoutRequest},
    sys::{
        cgroup::Group,
        clock::{self, Timer},
        poll,
        process::{self, ExitReport},
        signal::{Notice, Signals},
    },
};

use super::{
    SupervisorError, capture::Capture, family::Family, launch::Live, main_process::MainProcess,
    system, tell::Leftovers,
};

/// How often a supervisor looks at the cancel marker unasked: also with the service down.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Changes of a folder that are so far apart have different times on any file system.
const TIMES_APART: Duration = Duration::from_secs(2);

/// One attempt whose process has started.
pub(super) struct Attempt {
    pub(super) record: JobRecord,
    pub(super) main: MainProcess,
    pub(super) family: Family,
    pub(super) signals_sent: Vec<i32>,
    pub(super) timeout: Option<Duration>,
    pub(super) timeout_change: u64,
    pub(super) stop: Option<Stop>,
    pub(super) exit: Option<Exit>,
    pub(super) capture: Capture,
    pub(super) group: Option<Group>,
    pub(super) leftovers: Leftovers,
    /// Requests for signals that were carried out and could not be removed.
    pub(super) carried_out: Vec<String>,
    signals: Signals,
    timer: Timer,
    armed: Duration,
    /// When the process started, on the boot clock.
    started: Duration,
    next_look: Duration,
    /// Nobody may know whom to send a signal to for a look at the folder.
    is_unknown: bool,
    /// When the folder had last been changed before it was last looked at; none if that was so
    /// short a time before that another change could have the same time.
    changed: Option<SystemTime>,
    /// Nothing has come for a while, and what memory could be given back has been.
    is_resting: bool,
}

/// The job is being stopped.
pub(super) struct Stop {
    pub(super) cause: StopCause,
    pub(super) reason: String,
    pub(super) limit: Option<Duration>,
    /// When the grace is over; `None` once everything has been killed.
    pub(super) kill_at: Option<Duration>,
}

/// The main process has ended; if it is a child, its zombie stays until the end is recorded.
pub(super) struct Exit {
    /// `None` if nobody can say.
    pub(super) status: Option<ExitStatus>,
    /// What its parent said; `None` if only the status is known.
    pub(super) report: Option<ExitReport>,
    pub(super) drain_until: Duration,
    /// What outlives it has been asked to stop.
    pub(super) is_stopping: bool,
}

/// What a supervisor knows at the beginning.
pub(super) struct Beginning {
    /// When the process started, on the boot clock.
    pub(super) started: Duration,
    /// The last change of the time limit that was answered, and the limit.
    pub(super) timeout: TimeoutRequest,
    /// The signals that Kill has sent.
    pub(super) signals_sent: Vec<i32>,
    /// Why the job is being stopped, if it is.
    pub(super) stop: Option<Stop>,
    /// How the main process ended, if it has.
    pub(super) exit: Option<Exit>,
    /// Whether the folder does not tell which process this is.
    pub(super) is_unknown: bool,
    /// Whether output may have been lost with those who died.
    pub(super) may_lack_output: bool,
}

impl Attempt {
    pub(super) fn new(
        record: JobRecord,
        live: Live,
        signals: Signals,
        beginning: Beginning,
    ) -> Result<Self, SupervisorError> {
        let Live { main, family, capture, group } = live;
        let Beginning { started, timeout, signals_sent, stop, exit, is_unknown, may_lack_output } =
            beginning;
        let timer = Timer::new().map_err(system("make a timer"))?;
        let (timeout_change, timeout) = timeout;
        Ok(Self {
            record,
            main,
            family,
            signals_sent,
            timeout,
            timeout_change,
            stop,
            exit,
            capture,
            group,
            carried_out: Vec::new(),
            leftovers: Leftovers { may_lack_output, ..Leftovers::default() },
            signals,
            timer,
            armed: Duration::ZERO,
            started,
            next_look: clock::since_boot() + LOOK_EVERY,
            is_unknown,
            changed: None,
            is_resting: false,
        })
    }

    /// Gives back the record, to write the end into, and the main process, to be let go of then.
    pub(super) fn into_parts(self) -> (JobRecord, MainProcess) {
        (self.record, self.main)
    }

    /// Watches until the process has ended, its output is complete and nothing is left of it.
    pub(super) fn run_to_end(&mut self) -> Result<End, SupervisorError> {
        let is_adopted = !matches!(self.family, Family::Own);
        if is_adopted {
            // What ended before anybody watched it wakes nobody.
            self.note_exit()?;
        }
        // A marker may have been dropped between the claim and now; with a supervisor that died,
        // anything.
        let mut look = is_adopted || self.record.dir().is_cancel_requested();
        loop {
            let now = clock::since_boot();
            // An end that is not understood yet comes before what is asked for.
            let is_gone = self.exit.is_none() && self.main.is_gone();
            if !is_gone {
                if look {
                    self.look_at_requests()?;
                }
                self.enforce_limits(now)?;
            }
            self.capture.search_silent(now);
            if self.is_finished(now)? {
                return Ok(self.end());
            }
            look = self.wait(now)? || (look && is_gone);
        }
    }

    /// Waits for something to happen and takes it; true if the folder is to be looked at.
    fn wait(&mut self, now: Duration) -> Result<bool, SupervisorError> {
        let wake = self.next_wake();
        // One that is armed for earlier is left alone: it only wakes us to look again. Limits on
        // silence would set it anew with each read.
        if self.armed.is_zero() || wake < self.armed {
            self.timer.set(wake).map_err(system("set the timer"))?;
            self.armed = wake;
        }
        let [out, err] = self.capture.descriptors();
        let child = if self.exit.is_none() { self.main.watched() } else { None };
        let watched = [out, err, child, Some(self.signals.as_fd()), Some(self.timer.as_fd())];
        let [out, err, child, signals, timer] =
            poll::readable(watched, None).map_err(system("poll"))?;
        for (stream, is_ready) in Stream::BOTH.into_iter().zip([out, err]) {
            if is_ready {
                self.is_resting = false;
                self.capture.read(stream);
            }
        }
        if child || self.main.next_look().is_some() {
            self.note_exit()?;
        }
        let mut look = false;
        if signals {
            while let Some(notice) = self.signals.next().map_err(system("read signals"))? {
                match notice {
                    Notice::Look => look = true,
                    // Orphans of the job that have ended; the main process has its own handle.
                    Notice::Child => {
                        self.main.reap_others().map_err(system("reap"))?;
                    }
                }
            }
        }
        if timer {
            self.timer.clear().map_err(system("clear the timer"))?;
            self.armed = Duration::ZERO;
        }
        if now >= self.next_look {
            if self.capture.last_output() + LOOK_EVERY <= now && !self.is_resting {
                self.is_resting = true;
                self.capture.rest();
                process::trim_memory();
            }
            if !self.record.dir().lock_path().exists() {
                // Somebody removed the job by hand: it must not run on where nobody can see it.
                self.kill_tree()?;
                let name = self.record.accepted().id.to_string();
                return Err(StoreError::Missing(name).into());
            }
            self.next_look = now + LOOK_EVERY;
            look |= self.is_unknown || self.has_changed();
        }
        Ok(look)
    }

    /// Whether something was put into the folder, or may have been, since it was last asked. Whoever
    /// asks something of the job does so and sends a signal, which may be lost or not be possible.
    fn has_changed(&mut self) -> bool {
        let changed = self.record.dir().changed();
        if changed.is_some() && changed == self.changed {
            return false;
        }
        let is_over = |time: &SystemTime| time.elapsed().is_ok_and(|age| age > TIMES_APART);
        self.changed = changed.filter(is_over);
        true
    }

    fn next_wake(&self) -> Duration {
        let mut wake = self.next_look;
        let mut sooner = |at: Option<Duration>| wake = wake.min(at.unwrap_or(wake));
        sooner(self.stop.as_ref().and_then(|stop| stop.kill_at));
        sooner(self.exit.as_ref().map(|exit| exit.drain_until));
        sooner(self.capture.next_search());
        if self.exit.is_none() {
            sooner(self.main.next_look());
        }
        if self.stop.is_none() && self.exit.is_none() {
            sooner(self.deadline());
            sooner(self.idle_deadline());
        }
        wake
    }

    /// When the run time limit is over, on the boot clock.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.timeout.map(|timeout| self.started + timeout)
    }

    pub(super) fn idle_deadline(&self) -> Option<Duration> {
        let limit = self.record.accepted().spec.idle_timeout;
        limit.map(|limit| self.capture.last_output() + limit)
    }
}
