//! A running process watched to its end: output, limits, requests to stop, leftovers.
//!
//! Everything happens in one loop over one poll. What has ended is looked at before what is
//! asked for, so that an end seen before our signal stands as it is.

use std::{os::fd::AsFd as _, time::Duration};

use crate::{
    job::{End, Event, ExitStatus, StopCause, Time, Usage, judge},
    store::{JobRecord, StoreError, Stream, TimeoutRequest},
    sys::{
        cgroup::Group,
        clock::{self, Timer},
        poll,
        process::{self, Ended, Resources},
        signal::{self, Notice, Signals},
        spawn::Child,
        tree,
    },
};

use super::{
    SupervisorError,
    capture::Capture,
    launch::Live,
    system,
    tell::{self, Leftovers},
};

/// How often a supervisor looks at the cancel marker unasked: also with the service down.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the death of a killed tree is waited for; what is left then cannot be killed.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// One attempt whose process has started.
pub(super) struct Attempt {
    pub(super) record: JobRecord,
    pub(super) child: Child,
    pub(super) signals_sent: Vec<i32>,
    pub(super) timeout: Option<Duration>,
    pub(super) timeout_change: u64,
    pub(super) stop: Option<Stop>,
    pub(super) exit: Option<Exit>,
    capture: Capture,
    group: Option<Group>,
    signals: Signals,
    timer: Timer,
    armed: Duration,
    started: Duration,
    next_look: Duration,
    /// Nothing has come for a while, and what memory could be given back has been.
    is_resting: bool,
    leftovers: Leftovers,
}

/// The job is being stopped.
pub(super) struct Stop {
    cause: StopCause,
    reason: String,
    limit: Option<Duration>,
    /// When the grace is over; `None` once everything has been killed.
    kill_at: Option<Duration>,
}

/// The main process has ended; its zombie stays until the end is recorded.
pub(super) struct Exit {
    status: ExitStatus,
    resources: Resources,
    drain_until: Duration,
    /// What outlives it has been asked to stop.
    is_stopping: bool,
}

impl Attempt {
    pub(super) fn new(
        record: JobRecord,
        live: Live,
        signals: Signals,
        queued_change: Option<TimeoutRequest>,
    ) -> Result<Self, SupervisorError> {
        let Live { child, capture, group } = live;
        let timer = Timer::new().map_err(system("make a timer"))?;
        let now = clock::since_boot();
        let unchanged = (0, record.accepted().timeout);
        let (timeout_change, timeout) = queued_change.unwrap_or(unchanged);
        Ok(Self {
            timeout,
            timeout_change,
            record,
            child,
            signals_sent: Vec::new(),
            stop: None,
            exit: None,
            capture,
            group,
            signals,
            timer,
            armed: Duration::ZERO,
            started: now,
            next_look: now + LOOK_EVERY,
            is_resting: false,
            leftovers: Leftovers::default(),
        })
    }

    /// Gives back the record, to write the end into.
    pub(super) fn into_record(self) -> JobRecord {
        self.record
    }

    /// Watches until the process has ended, its output is complete and nothing is left of it.
    pub(super) fn run_to_end(&mut self) -> Result<End, SupervisorError> {
        // A marker may have been dropped between the claim and now.
        let mut look = self.record.dir().is_cancel_requested();
        loop {
            if look {
                self.look_at_requests()?;
            }
            let now = clock::since_boot();
            self.enforce_limits(now)?;
            self.capture.search_silent(now);
            if self.is_finished(now)? {
                return Ok(self.end());
            }
            look = self.wait(now)?;
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
        let child = self.exit.is_none().then(|| self.child.handle.as_fd());
        let watched = [out, err, child, Some(self.signals.as_fd()), Some(self.timer.as_fd())];
        let [out, err, child, signals, timer] =
            poll::readable(watched, None).map_err(system("poll"))?;
        for (stream, is_ready) in Stream::BOTH.into_iter().zip([out, err]) {
            if is_ready {
                self.is_resting = false;
                self.capture.read(stream);
            }
        }
        if child {
            self.note_exit()?;
        }
        let mut look = false;
        if signals {
            while let Some(notice) = self.signals.next().map_err(system("read signals"))? {
                match notice {
                    Notice::Look => look = true,
                    // Orphans of the job that have ended; the main process has its own handle.
                    Notice::Child => {
                        process::reap_others(self.child.pid).map_err(system("reap"))?;
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
            look |= self.stop.is_none() && self.record.dir().is_cancel_requested();
        }
        Ok(look)
    }

    fn next_wake(&self) -> Duration {
        let mut wake = self.next_look;
        let mut sooner = |at: Option<Duration>| wake = wake.min(at.unwrap_or(wake));
        sooner(self.stop.as_ref().and_then(|stop| stop.kill_at));
        sooner(self.exit.as_ref().map(|exit| exit.drain_until));
        sooner(self.capture.next_search());
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

    fn idle_deadline(&self) -> Option<Duration> {
        let limit = self.record.accepted().spec.idle_timeout;
        limit.map(|limit| self.capture.last_output() + limit)
    }

    fn enforce_limits(&mut self, now: Duration) -> Result<(), SupervisorError> {
        let is_over = |deadline: Option<Duration>| deadline.is_some_and(|at| now >= at);
        let grace = self.record.accepted().spec.stop_grace_or_default();
        if self.exit.is_none() && self.stop.is_none() {
            if is_over(self.deadline()) {
                let limit = self.timeout;
                self.begin_stop(StopCause::Timeout, String::new(), limit, grace)?;
            } else if is_over(self.idle_deadline()) {
                let limit = self.record.accepted().spec.idle_timeout;
                self.begin_stop(StopCause::IdleTimeout, String::new(), limit, grace)?;
            }
        }
        if self.stop.is_none()
            && let Some(exceeded) = self.capture.exceeded()
        {
            // If it has ended, what is left of it must not write on either.
            let reason = tell::exceeded(exceeded);
            self.begin_stop(StopCause::OutputLimit, reason, None, grace)?;
        }
        if let Some(stop) = &mut self.stop
            && is_over(stop.kill_at)
        {
            stop.kill_at = None;
            self.kill_tree()?;
        }
        Ok(())
    }

    /// Sends the stop signal, or SIGKILL if there is no grace. An end seen from here on is ours.
    pub(super) fn begin_stop(
        &mut self,
        cause: StopCause,
        reason: String,
        limit: Option<Duration>,
        grace: Duration,
    ) -> Result<(), SupervisorError> {
        // It may have ended since the last look: then that end stands.
        self.note_exit()?;
        if self.exit.is_some() {
            let is_for_all = matches!(cause, StopCause::Cancel | StopCause::OutputLimit);
            return if is_for_all { self.stop_leftovers(grace) } else { Ok(()) };
        }
        // Written before the signal: whoever reads on knows why the process ends.
        self.record.append(&Event::Stopping { cause, time: Time::from(clock::now()) })?;
        let kill_at = Some(clock::since_boot() + grace);
        self.stop = Some(Stop { cause, reason, limit, kill_at });
        if !grace.is_zero() {
            let stop_signal = self.record.accepted().spec.stop_signal_or_default();
            Self::signal_tree(stop_signal)?;
            // A stopped process would not see its signal before the grace is over.
            Self::signal_tree(signal::CONTINUE)?;
        }
        Ok(())
    }

    /// Asks what outlives the main process to stop, and gives it no longer than `grace`. How the
    /// main process ended stands.
    fn stop_leftovers(&mut self, grace: Duration) -> Result<(), SupervisorError> {
        let Some(exit) = self.exit.as_mut().filter(|exit| !exit.is_stopping) else { return Ok(()) };
        exit.is_stopping = true;
        exit.drain_until = exit.drain_until.min(clock::since_boot() + grace);
        if !grace.is_zero() {
            Self::signal_tree(self.record.accepted().spec.stop_signal_or_default())?;
            Self::signal_tree(signal::CONTINUE)?;
        }
        Ok(())
    }

    /// Sends a signal to every process of the job; tells how many got it.
    pub(super) fn signal_tree(signal: i32) -> Result<usize, SupervisorError> {
        let own = process::own_pid();
        let listed = tree::descendants(&[own], false).map_err(system("list processes"))?;
        Ok(tree::signal_each(&listed, signal))
    }

    /// Kills every process of the job; tells how many there were.
    pub(super) fn kill_tree(&mut self) -> Result<usize, SupervisorError> {
        let own = process::own_pid();
        let main = self.child.pid;
        let list = || tree::descendants(&[own], false);
        let found = list().map_err(system("list processes"))?.len();
        if let Some(group) = &self.group {
            // At once and for all; what left the group is found by the walk that follows.
            let _ = group.kill();
        }
        let reap = || drop(process::reap_others(main));
        self.leftovers.survivors =
            tree::kill_all(list, reap, KILL_LIMIT).map_err(system("kill the tree"))?;
        Ok(found)
    }

    /// Looks whether the main process has ended.
    fn note_exit(&mut self) -> Result<(), SupervisorError> {
        if self.exit.is_some() {
            return Ok(());
        }
        let peeked = process::peek_end(self.child.pid).map_err(system("look at the job"))?;
        let Some((ended, resources)) = peeked else { return Ok(()) };
        let status = match ended {
            Ended::Exited(code) => ExitStatus::Code(code),
            Ended::Signaled(signal, core_dumped) => ExitStatus::Signal { signal, core_dumped },
        };
        let limit = self.record.accepted().spec.drain_timeout_or_default();
        let drain_until = clock::since_boot() + limit;
        self.exit = Some(Exit { status, resources, drain_until, is_stopping: false });
        let may_have_more = self.capture.read_available();
        if may_have_more || !self.capture.is_at_end() {
            // It may take a while, and this process might not live to tell the end.
            let time = Time::from(clock::now());
            self.record.append(&Event::Exited { exit: status, time })?;
        }
        Ok(())
    }

    /// Whether all is over. Kills what is left of the job once nothing speaks for waiting.
    fn is_finished(&mut self, now: Duration) -> Result<bool, SupervisorError> {
        let Some(exit) = &self.exit else { return Ok(false) };
        let is_drained = self.capture.is_at_end();
        if !is_drained && now < exit.drain_until {
            return Ok(false);
        }
        let children = tree::own_children().map_err(system("list processes"))?;
        if children.iter().any(|pid| *pid != self.child.pid) {
            let killed = self.kill_tree()?;
            if !is_drained {
                self.leftovers.killed_holding_output = killed;
            }
        }
        self.capture.finish();
        if let Some(group) = self.group.take() {
            // The main process is a zombie in it until its end is recorded; that does not count.
            let _ = group.remove();
        }
        Ok(true)
    }

    fn end(&self) -> End {
        let Some(exit) = &self.exit else { return tell::lost("", Time::from(clock::now())) };
        let stop = self.stop.as_ref();
        let sent = |signal| self.signals_sent.contains(&signal);
        let told = stop.map(|stop| (stop.cause, stop.reason.as_str(), stop.limit));
        // Too much is too much, also if it ended before it could be stopped.
        let exceeded = self.capture.exceeded().map(tell::exceeded);
        let exceeded = exceeded.as_deref().map(|reason| (StopCause::OutputLimit, reason, None));
        let told = told.or(exceeded);
        let (state, cause) = judge(exit.status, told.map(|(cause, ..)| cause), sent);
        let fault = self.capture.fault();
        let message = tell::message(exit.status, cause, told, self.leftovers, fault.as_deref());
        let [stdout, stderr] = self.capture.sizes();
        End {
            state,
            cause,
            exit: Some(exit.status),
            message,
            launch_error: None,
            time: Time::from(clock::now()),
            usage: Some(self.usage(exit)),
            stdout,
            stderr,
        }
    }

    /// What the main process used, with those it waited for, and the orphans that were reaped.
    fn usage(&self, exit: &Exit) -> Usage {
        let orphans = process::resources_of_children();
        let (read_bytes, write_bytes) = process::storage_bytes(self.child.pid);
        Usage {
            user_time: exit.resources.user_time + orphans.user_time,
            system_time: exit.resources.system_time + orphans.system_time,
            max_rss_bytes: exit.resources.max_rss_bytes.max(orphans.max_rss_bytes),
            read_bytes,
            write_bytes,
        }
    }
}
