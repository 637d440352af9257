//! One attempt of one job, from its claim to its recorded end.
//!
//! A supervisor is a process of its own, with one thread, that learns all it needs from the
//! job's folder and writes all it knows into it. It never talks to the service: a signal to it
//! means "look at the folder again". It knows neither tokio nor gRPC.

mod adopt;
mod attempt;
mod bury;
mod capture;
mod confine;
mod ending;
mod environment;
mod family;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod launch;
mod main_process;
mod matcher;
mod report;
mod requests;
mod search;
mod stopping;
mod tell;

use std::{os::fd::OwnedFd, time::Duration};

pub use adopt::{Inheritance, Orphaned, adopt, kill_strays, orphaned, report_pipe};
use attempt::Attempt;
pub use report::report_line;

use crate::{
    job::{Claim, End, Event, ProcessIdentity, State, Time},
    store::{JobDir, JobRecord, StoreError},
    sys::{
        cgroup::GroupParent,
        clock, faults, pipe, process,
        signal::{self, Signals},
    },
};

/// How often an end that could not be written is tried again, and how long apart.
const END_TRIES: u32 = 30;
const END_PAUSE: Duration = Duration::from_secs(1);

/// What people read about a job that no supervisor lived to start.
const NEVER_STARTED: &str = "Its supervisors died one after the other while they were starting it; \
    it never ran.";

/// The reading ends of the FIFOs of a job: standard output, standard error.
#[derive(Debug)]
pub struct Fifos(pub [OwnedFd; 2]);

impl Fifos {
    /// Makes the FIFOs of a job, or takes those that are there, and opens their reading ends.
    pub fn open(dir: &JobDir) -> Result<Self, std::io::Error> {
        let open = |path: &std::path::Path| match pipe::create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => pipe::open_reader(path),
        };
        let [out, err] = dir.fifo_paths();
        Ok(Self([open(&out)?, open(&err)?]))
    }

    /// Opens the reading ends of FIFOs that are there, so that they outlive their supervisor.
    pub fn keep(dir: &JobDir) -> Result<Self, std::io::Error> {
        let [out, err] = dir.fifo_paths();
        Ok(Self([pipe::open_reader(&out)?, pipe::open_reader(&err)?]))
    }

    /// The same ends in further descriptors.
    pub fn try_clone(&self) -> Result<Self, std::io::Error> {
        let [out, err] = &self.0;
        Ok(Self([out.try_clone()?, err.try_clone()?]))
    }
}

/// What keeps a supervisor from its work.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The folder cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system refused something that needs no file of the job.
    #[error("cannot {action}")]
    System {
        /// The verb.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

pub(crate) fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> SupervisorError {
    move |source| SupervisorError::System { action, source }
}

/// What the host gives every job besides what its spec says.
#[derive(Debug, Default)]
pub struct Host {
    /// Where control groups can be made.
    pub groups: Option<GroupParent>,
    /// The soft limit of open files; `None` leaves what this process has.
    pub open_files: Option<u64>,
}

/// What became of a supervisor's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    /// The end of the job is recorded.
    ToTheEnd,
    /// Another has the job, or it is not to be started any more.
    NotTaken,
}

/// Supervises the job in `dir` to its end. Returns at once if another has it or it has ended.
/// `host` says what the host gives its jobs.
///
/// The process must have a single thread. On an error the job may be left without an end; who
/// started this process sees that by its exit status and has it adopted.
pub fn supervise(dir: JobDir, fifos: Fifos, host: &Host) -> Result<Supervised, SupervisorError> {
    let signals = become_supervisor()?;
    let Some(record) = JobRecord::try_take(dir)? else { return Ok(Supervised::NotTaken) };
    if *record.state() != State::Queued {
        return Ok(Supervised::NotTaken);
    }
    supervise_taken(record, fifos, host, signals)
}

/// Makes this process one that supervises.
fn become_supervisor() -> Result<Signals, SupervisorError> {
    // A session of its own: what ends the service's terminal or group misses it. The leader of
    // a session already has one.
    let _ = process::leave_session();
    process::forbid_dumps();
    process::set_name(c"jobwarden-sup");
    faults::role(faults::Role::Supervisor);
    process::become_subreaper().map_err(system("become a subreaper"))?;
    Signals::take().map_err(system("take signals"))
}

/// Supervises a job that has not been started, and whose lock is held.
fn supervise_taken(
    mut record: JobRecord,
    fifos: Fifos,
    host: &Host,
    signals: Signals,
) -> Result<Supervised, SupervisorError> {
    if let Some(request) = record.dir().cancel()? {
        let now = Time::from(clock::now());
        tell_end(&mut record, tell::cancelled_before_start(&request, now))?;
        return Ok(Supervised::ToTheEnd);
    }
    // Before the claim: what is asked from the start on wants an answer.
    let queued_change = record.dir().timeout_request().unwrap_or_else(|error| {
        eprintln!("jobwarden supervisor: the limit in the folder does not count: {error}");
        None
    });
    faults::point("supervisor.locked");
    if !claim(&mut record)? {
        // Every supervisor before died while it was starting it; the program has not run.
        let end = tell::lost(NEVER_STARTED, Time::from(clock::now()));
        tell_end(&mut record, end)?;
        return Ok(Supervised::ToTheEnd);
    }
    faults::point("supervisor.claimed");
    match launch::launch(&mut record, fifos, host)? {
        launch::Launched::Failed(end) => {
            tell_end(&mut record, *end)?;
            Ok(Supervised::ToTheEnd)
        }
        launch::Launched::Running(live) => {
            let unchanged = (0, record.accepted().timeout);
            let beginning = attempt::Beginning {
                started: clock::since_boot(),
                timeout: queued_change.unwrap_or(unchanged),
                signals_sent: Vec::new(),
                stop: None,
                exit: None,
                is_unknown: false,
                may_lack_output: false,
            };
            Attempt::new(record, *live, signals, beginning)?.supervise()
        }
    }
}

impl Attempt {
    /// Supervises to the end and records it.
    fn supervise(mut self) -> Result<Supervised, SupervisorError> {
        let end = self.run_to_end()?;
        let (mut record, main) = self.into_parts();
        faults::point("supervisor.drained");
        tell_end(&mut record, end)?;
        faults::point("supervisor.ended");
        // Only now: until its end is recorded the zombie keeps the status.
        main.reap().map_err(system("reap the job"))?;
        Ok(Supervised::ToTheEnd)
    }
}

/// Supervises one job as a process of its own, without a launcher: what an engine starts on
/// another machine.
pub fn supervise_alone(dir: JobDir) -> Result<(), SupervisorError> {
    signal::set_all_to_default();
    let fifos = Fifos::open(&dir).map_err(system("make the FIFOs"))?;
    supervise(dir, fifos, &Host::default()).map(drop)
}

/// Does once, in the launcher, what each of its forks would otherwise do again: find out what
/// the processor can do (its own answer is slow in a virtual machine), who the account is, which
/// boot this is. Nothing fails here; what cannot be known now is asked again when it is needed.
pub fn warm_up() {
    let _ = clock::boot_id();
    environment::warm_up();
    JobRecord::warm_up();
}

/// Claims the job; false if that was done so often that there is no room for it any more.
fn claim(record: &mut JobRecord) -> Result<bool, SupervisorError> {
    let supervisor = identity_of(process::own_pid())?;
    let time = Time::from(clock::now());
    let claim = Claim { attempt: 1, supervisor, time, announces: true };
    if *record.state() == State::Queued {
        record.append(&Event::Claimed(claim))?;
        return Ok(true);
    }
    Ok(record.append_if_room(&Event::Claimed(claim)))
}

fn identity_of(pid: i32) -> Result<ProcessIdentity, SupervisorError> {
    let start_ticks =
        process::start_ticks_of(pid).map_err(system("read when a process started"))?;
    let boot_id = clock::boot_id().map_err(system("read the boot id"))?;
    Ok(ProcessIdentity { pid, start_ticks: start_ticks.unwrap_or(0), boot_id: boot_id.to_owned() })
}

/// Records the end and removes what only the attempt needed.
///
/// The room for the end was set aside when the job was accepted, so a full disk does not stop
/// it; what does (an I/O error) may pass, and an end is worth waiting for.
fn tell_end(record: &mut JobRecord, end: End) -> Result<(), SupervisorError> {
    if !record.accepted().spec.secret_keys.is_empty() {
        let _ = record.dir().remove_secrets();
    }
    let event = Event::Ended(end);
    for _ in 1..END_TRIES {
        if record.append(&event).is_ok() {
            faults::point("supervisor.end_recorded");
            // The end is told; a FIFO that stays behind harms nobody.
            let _ = record.dir().remove_fifos();
            return Ok(());
        }
        std::thread::sleep(END_PAUSE);
    }
    record.append(&event)?;
    Ok(())
}
