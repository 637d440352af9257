//! Taking the place of a supervisor that died: its job goes on, with its output and its exit
//! status, and everything that it was asked for.
//!
//! All that is needed stands in the folder; the FIFOs hold what was not written yet. How the main
//! process ends is told by its parent now, through a pipe, or by the kernel.

use std::{fs::File, io, sync::Arc, time::Duration};

use crate::{
    job::{Event, Job, ProcessIdentity, Running, State, StopCause, Time, TimeoutChange},
    store::{JobDir, JobRecord, TimeoutRequest},
    sys::{
        clock, faults, fs, pipe,
        process::{self, PidFd},
        signal::Signals,
        tree::{self, Listed},
    },
};

use super::{
    Fifos, Host, Supervised, SupervisorError,
    attempt::{Attempt, Beginning, Exit, Stop},
    bury,
    capture::Capture,
    family::Family,
    identity_of, launch,
    launch::Live,
    main_process::MainProcess,
    supervise_taken, system, tell_end,
};

/// How long the lock of a job is waited for: a process that is just being started holds it a
/// little longer than its dead supervisor.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How long the death of strays is waited for.
const STRAYS_LIMIT: Duration = Duration::from_secs(15);

/// What a launcher gives to a supervisor that takes another's place.
#[derive(Debug)]
pub struct Inheritance {
    /// The reading ends of the FIFOs.
    pub fifos: Fifos,
    /// Where the launcher reports how the main process ended, if it is its parent.
    pub reports: Option<File>,
    /// A handle to the main process, if somebody has held one.
    pub main: Option<PidFd>,
    /// Nobody may have held the FIFOs for a while, in which the job could end.
    pub may_lack_output: bool,
    /// Others have failed at it: the job is to be ended, whatever becomes of its output.
    pub is_last: bool,
}

/// Takes up the job in `dir`, whose supervisor died, and supervises it to its end. Returns at
/// once if another has it or it has ended. `host` is for a job that has not been started yet.
///
/// The process must have a single thread. On an error the job may be left without an end.
pub fn adopt(
    dir: &JobDir,
    inheritance: Inheritance,
    host: &Host,
) -> Result<Supervised, SupervisorError> {
    let signals = super::become_supervisor()?;
    let Some(mut record) = take(dir)? else { return Ok(Supervised::NotTaken) };
    faults::point("adopter.locked");
    let boot_id = clock::boot_id().map_err(system("read the boot id"))?;
    let is_this_boot =
        record.state().supervisor().is_none_or(|supervisor| supervisor.boot_id == boot_id);
    match record.state().clone() {
        State::Ended { .. } => {
            // Who recorded it may not have come to this.
            let _ = record.dir().remove_fifos();
            Ok(Supervised::NotTaken)
        }
        State::Queued => Ok(Supervised::NotTaken),
        State::ExecFailed { errno, .. } => {
            let end = launch::exec_failed(&record, errno);
            tell_end(&mut record, end)?;
            Ok(Supervised::ToTheEnd)
        }
        _ if inheritance.is_last => bury::bury(record).map(|()| Supervised::ToTheEnd),
        // The program has not run.
        State::Claimed(claim) if claim.announces && is_this_boot => {
            supervise_taken(record, inheritance.fifos, host, signals)
        }
        State::Claimed(_) => bury::bury(record).map(|()| Supervised::ToTheEnd),
        _ if !is_this_boot => bury::bury(record).map(|()| Supervised::ToTheEnd),
        State::Starting(running) => {
            let _ = record.dir().remove_secrets();
            record.append(&Event::Started(running.started))?;
            go_on(record, inheritance, signals)
        }
        State::Running(_) | State::Exited { .. } => go_on(record, inheritance, signals),
    }
}

fn take(dir: &JobDir) -> Result<Option<JobRecord>, SupervisorError> {
    let begun = clock::since_boot();
    loop {
        if let Some(record) = JobRecord::try_take(dir.clone())? {
            return Ok(Some(record));
        }
        if clock::since_boot() >= begun + LOCK_WAIT {
            return Ok(None);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Supervises a process that another supervisor started.
fn go_on(
    mut record: JobRecord,
    inheritance: Inheritance,
    signals: Signals,
) -> Result<Supervised, SupervisorError> {
    let Inheritance { fifos, reports, main, may_lack_output, is_last: _ } = inheritance;
    let supervisor = identity_of(process::own_pid())?;
    let adopted = Event::Adopted { supervisor, time: Time::from(clock::now()) };
    // Where there is no room for this, the job is supervised all the same.
    let is_unknown = !record.append_if_room(&adopted);
    faults::point("adopter.adopted");
    if !record.accepted().spec.secret_keys.is_empty() {
        let _ = record.dir().remove_secrets();
    }
    let Some(running) = record.state().running().cloned() else {
        return Ok(Supervised::NotTaken);
    };
    let identity = running.started.process.clone();
    let started = clock::since_boot().saturating_sub(process::age(identity.start_ticks));
    let main = MainProcess::adopted(identity, main, reports).map_err(system("find the job"))?;
    let family = Family::adopted(&record);
    let group = bury::recorded_group(&record)?;
    let spec = &record.accepted().spec;
    let capture = Capture::adopt(record.dir(), fifos, spec, last_output(record.dir(), started))?;
    let job = record.dir().read_with(Arc::clone(record.accepted())).unwrap_or_else(|error| {
        // What was asked for does not count; the job does.
        eprintln!("jobwarden supervisor: a job goes on without its requests: {error}");
        Job::new(Arc::clone(record.accepted()))
    });
    let delivered = job.kills.iter().filter(|kill| kill.delivered).map(|kill| kill.signal);
    // One that was sent and not answered any more has its effect all the same.
    let asked = record.dir().kill_requests().unwrap_or_default();
    let asked = asked.into_iter().map(|request| request.signal);
    faults::point("adopter.captured");
    let beginning = Beginning {
        started,
        timeout: timeout(&job),
        signals_sent: delivered.chain(asked).collect(),
        stop: stop(&record, &job, &running)?,
        exit: exit(&record),
        is_unknown,
        may_lack_output,
    };
    let live = Live { main, family, capture, group };
    Attempt::new(record, live, signals, beginning)?.supervise()
}

/// The same moment on the boot clock, if it is not in the future.
fn on_boot_clock(time: Time) -> Duration {
    let now = Time::from(clock::now());
    // A clock that was set back must not make it a moment to come.
    let ago = if time <= now { now.since(time) } else { Duration::ZERO };
    clock::since_boot().saturating_sub(ago)
}

/// When the last byte came, on the boot clock, as far as the logs tell.
fn last_output(dir: &JobDir, started: Duration) -> Duration {
    // What lies beyond a limit is in the index only.
    let paths = [dir.stdout_path(), dir.stderr_path(), dir.index_path()];
    let times = paths.map(|path| fs::modified(&path));
    times.into_iter().flatten().map(|time| on_boot_clock(Time::from(time))).fold(started, Ord::max)
}

/// The last change of the time limit that needs no answer, and the limit that holds. One without
/// an answer holds as well: it was asked for before the start, or is answered next.
fn timeout(job: &Job) -> TimeoutRequest {
    match job.timeout_change {
        None => (0, job.accepted.timeout),
        Some(TimeoutChange { number, timeout: _, answer: Some(false) }) => {
            (number, job.accepted.timeout)
        }
        Some(TimeoutChange { number, timeout, answer: Some(true) }) => (number, timeout),
        Some(TimeoutChange { number, timeout, answer: None }) => {
            (number.saturating_sub(1), timeout)
        }
    }
}

/// What was begun to stop the job. The signal has been sent, but perhaps for the last
/// microseconds: it is not sent again, since a second one means more to many programs, and what
/// is left when the grace is over is killed.
fn stop(record: &JobRecord, job: &Job, running: &Running) -> Result<Option<Stop>, SupervisorError> {
    let Some(cause) = running.stop else { return Ok(None) };
    let accepted = record.accepted();
    let request = job.cancel.as_ref().filter(|_| cause == StopCause::Cancel);
    let grace = request.and_then(|request| request.grace_period);
    let grace = grace.unwrap_or_else(|| accepted.spec.stop_grace_or_default());
    let begun = record.dir().events()?.into_iter().find_map(|event| match event {
        Event::Stopping { time, .. } => Some(time),
        _ => None,
    });
    let begun = begun.map_or_else(clock::since_boot, on_boot_clock);
    let limit = match cause {
        StopCause::Timeout => timeout(job).1,
        StopCause::IdleTimeout => accepted.spec.idle_timeout,
        StopCause::Cancel | StopCause::OutputLimit => None,
    };
    let reason = match cause {
        StopCause::OutputLimit => "The output exceeded its limit".to_owned(),
        _ => request.map(|request| request.reason.clone()).unwrap_or_default(),
    };
    Ok(Some(Stop { cause, reason, limit, kill_at: Some(begun + grace) }))
}

/// How the main process ended, if that was recorded.
fn exit(record: &JobRecord) -> Option<Exit> {
    let State::Exited { exit, time, .. } = record.state() else { return None };
    let drain_until = on_boot_clock(*time) + record.accepted().spec.drain_timeout_or_default();
    Some(Exit { status: Some(*exit), report: None, drain_until, is_stopping: false })
}

impl Orphaned {
    /// Whether the main process has not ended: bytes in its FIFOs are there for who opens them.
    pub fn is_alive(&self) -> bool {
        let Self::Started(main) = self else { return *self != Self::Ended };
        let handle = PidFd::open_exactly(main.pid, main.start_ticks).ok().flatten();
        handle.is_some_and(|handle| !handle.has_ended())
    }
}

/// What a launcher needs to know of a job whose supervisor died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// It has ended: nothing is to be done.
    Ended,
    /// It waits in the queue: nobody has claimed it.
    Queued,
    /// It has no main process that anybody knows of.
    NotStarted,
    /// This is its main process.
    Started(ProcessIdentity),
}

/// Looks what has become of a job.
pub fn orphaned(dir: &JobDir) -> Result<Orphaned, SupervisorError> {
    if !dir.lock_path().exists() {
        // A folder that is gone is no job.
        return Ok(Orphaned::Ended);
    }
    let mut found = Orphaned::Queued;
    for event in dir.events()? {
        match event {
            Event::Starting(started) | Event::Started(started) => {
                found = Orphaned::Started(started.process);
            }
            Event::Ended(_) => return Ok(Orphaned::Ended),
            Event::Claimed(_) => found = Orphaned::NotStarted,
            Event::ExecFailed { .. }
            | Event::Adopted { .. }
            | Event::Stopping { .. }
            | Event::Exited { .. } => {}
        }
    }
    Ok(found)
}

/// Kills processes that dead supervisors have left to a launcher and that belong to no job any
/// more, with their descendants.
pub fn kill_strays(strays: &[Listed]) -> Result<(), SupervisorError> {
    let list = || {
        let is_same = |stray: &&Listed| {
            process::start_ticks_of(stray.pid).is_ok_and(|ticks| ticks == Some(stray.start_ticks))
        };
        let roots: Vec<i32> = strays.iter().filter(is_same).map(|stray| stray.pid).collect();
        tree::descendants(&roots, true)
    };
    tree::kill_all(list, || {}, STRAYS_LIMIT).map_err(system("kill strays"))?;
    Ok(())
}

/// A pipe through which a launcher reports: its reading end, which does not wait, and its writing
/// end.
pub fn report_pipe() -> io::Result<(File, File)> {
    pipe::unnamed()
}
