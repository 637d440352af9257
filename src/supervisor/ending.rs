//! How a job ended: its main process, what is left of it, and what is said about it.

use crate::{
    job::{End, Event, ExitStatus, StopCause, Time, Usage, judge},
    sys::{
        clock, faults,
        process::{self, Ended, ExitReport},
    },
};

use super::{
    SupervisorError,
    attempt::{Attempt, Exit},
    main_process::Fate,
    system, tell,
};

use std::time::Duration;

/// What people read about a job whose main process ended unseen.
const UNKNOWN: &str =
    "Its supervisor and the process that could have said how it ended were killed.";

impl Attempt {
    /// Looks whether the main process has ended.
    pub(super) fn note_exit(&mut self) -> Result<(), SupervisorError> {
        if self.exit.is_some() {
            return Ok(());
        }
        let fate = self.main.fate().map_err(system("look at the job"))?;
        let now = clock::since_boot();
        let (report, drain_until) = match fate {
            None => return Ok(()),
            // Nobody speaks for what is left of it any more.
            Some(Fate::Unknown) => (None, now),
            Some(Fate::Known(report)) => {
                let limit = self.record.accepted().spec.drain_timeout_or_default();
                (Some(report), now + limit)
            }
        };
        let status = report.map(|report| status(report.ended));
        faults::point("supervisor.exit_seen");
        self.exit = Some(Exit { status, report, drain_until, is_stopping: false });
        let Some(exit) = status else { return Ok(()) };
        let may_have_more = self.capture.read_available();
        if may_have_more || !self.capture.is_at_end() {
            // It may take a while, and this process might not live to tell the end.
            let time = Time::from(clock::now());
            let written = self.record.append(&Event::Exited { exit, time });
            self.tolerate(written);
            faults::point("supervisor.exit_recorded");
        }
        Ok(())
    }

    /// Whether all is over. Kills what is left of the job once nothing speaks for waiting.
    pub(super) fn is_finished(&mut self, now: Duration) -> Result<bool, SupervisorError> {
        let Some(exit) = &self.exit else { return Ok(false) };
        let is_drained = self.capture.is_at_end();
        if !is_drained && now < exit.drain_until {
            return Ok(false);
        }
        let has_others = self.family.has_others(self.main.pid(), self.group.is_some());
        if has_others.map_err(system("list processes"))? {
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

    /// How the job ended.
    pub(super) fn end(&self) -> End {
        let [stdout, stderr] = self.capture.sizes();
        let Some(Exit { status: Some(exit), report, .. }) = &self.exit else {
            let mut end = tell::lost(UNKNOWN, Time::from(clock::now()));
            if self.leftovers.may_lack_output {
                end.message = format!("{UNKNOWN} Also, {}.", tell::MAY_LACK_OUTPUT);
            }
            (end.stdout, end.stderr) = (stdout, stderr);
            return end;
        };
        let stop = self.stop.as_ref();
        let sent = |signal| self.signals_sent.contains(&signal);
        let told = stop.map(|stop| (stop.cause, stop.reason.as_str(), stop.limit));
        // Too much is too much, also if it ended before it could be stopped.
        let exceeded = self.capture.exceeded().map(tell::exceeded);
        let exceeded = exceeded.as_deref().map(|reason| (StopCause::OutputLimit, reason, None));
        let told = told.or(exceeded);
        let (state, cause) = judge(*exit, told.map(|(cause, ..)| cause), sent);
        let fault = self.capture.fault();
        let message = tell::message(*exit, cause, told, self.leftovers, fault.as_deref());
        End {
            state,
            cause,
            exit: Some(*exit),
            message,
            launch_error: None,
            time: Time::from(clock::now()),
            usage: report.as_ref().map(usage),
            stdout,
            stderr,
        }
    }
}

/// What the main process used, with those it waited for, and the orphans that were reaped here.
fn usage(report: &ExitReport) -> Usage {
    let ExitReport { ended: _, resources, storage_bytes: (read_bytes, write_bytes) } = *report;
    let orphans = process::resources_of_children();
    Usage {
        user_time: resources.user_time + orphans.user_time,
        system_time: resources.system_time + orphans.system_time,
        max_rss_bytes: resources.max_rss_bytes.max(orphans.max_rss_bytes),
        read_bytes,
        write_bytes,
    }
}

fn status(ended: Ended) -> ExitStatus {
    match ended {
        Ended::Exited(code) => ExitStatus::Code(code),
        Ended::Signaled(signal, core_dumped) => ExitStatus::Signal { signal, core_dumped },
    }
}
