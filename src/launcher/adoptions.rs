//! Supervisors in the place of dead ones.
//!
//! What a job needs to be taken up stays here until it has ended, whoever supervises it: the
//! FIFOs, a handle to its main process, and how that ended.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    os::fd::{AsFd as _, AsRawFd},
    time::Duration,
};

use crate::{
    job::JobId,
    launch_message::Notice,
    store::JobDir,
    supervisor::{
        self, Fifos, Inheritance, Orphaned, Supervised, SupervisorError, report_line, system,
    },
    sys::{
        self, clock, faults, lock,
        process::{self, ExitReport, PidFd},
        tree::{self, Listed},
    },
};

use super::{EXIT_FAILED, EXIT_LOOK, Launcher, orphans::Identity};

/// Deaths after each of which the next supervisor follows at once.
const QUICK_DEATHS: u32 = 8;
/// What the pause before the next grows by with each further death, and its bound.
const PAUSE_STEP: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A supervisor that lived this long begins a new count.
const LIVED_WELL: Duration = Duration::from_mins(1);
/// Supervisors that may fail by themselves before the next ends the job.
const FAILURES_MAX: u32 = 5;
/// How often it is looked whether another holds a job, at first (it may be a process that is being
/// started) and later (it is another launcher's supervisor).
const HELD_LOOK: Duration = Duration::from_millis(20);
const HELD_LOOKS: u32 = 100;
const HELD_LOOK_LATER: Duration = Duration::from_secs(5);

/// Jobs whose supervisors have died here and that have not ended: at most those that run.
#[derive(Debug, Default)]
pub(super) struct Adoptions(HashMap<JobId, Adoption>);

#[derive(Debug)]
struct Adoption {
    dir: JobDir,
    deaths: u32,
    /// How many of them were no deaths by a signal.
    failures: u32,
    held_looks: u32,
    /// When the next supervisor is due, on the boot clock; `None` while there is one.
    due: Option<Duration>,
    fifos: Option<Fifos>,
    may_lack_output: bool,
    /// The main process, once it is known.
    main: Option<Identity>,
    handle: Option<PidFd>,
    report: Option<ExitReport>,
    /// Where its supervisor hears how the main process ended.
    reports: Option<File>,
}

impl Adoptions {
    /// The job of which a supervisor has died or is missing.
    fn entry(&mut self, id: JobId, dir: JobDir) -> &mut Adoption {
        self.0.entry(id).or_insert_with(|| Adoption {
            dir,
            deaths: 0,
            failures: 0,
            held_looks: 0,
            due: None,
            fifos: None,
            may_lack_output: false,
            main: None,
            handle: None,
            report: None,
            reports: None,
        })
    }

    /// Whether any job is without a supervisor of ours.
    pub(super) fn are_due(&self) -> bool {
        self.0.values().any(|adoption| adoption.due.is_some())
    }

    /// When the next is due, on the boot clock.
    pub(super) fn next_try(&self) -> Option<Duration> {
        self.0.values().filter_map(|adoption| adoption.due).min()
    }

    /// A job whose time has come.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<JobId> {
        let is_due = |adoption: &Adoption| adoption.due.is_some_and(|due| due <= now);
        let (id, adoption) = self.0.iter_mut().find(|(_, adoption)| is_due(adoption))?;
        adoption.due = None;
        Some(*id)
    }

    /// Passes on how a process ended, if it is the main process of such a job.
    pub(super) fn report(&mut self, identity: Identity, report: &ExitReport) {
        for adoption in self.0.values_mut() {
            if adoption.main.is_none() {
                // It was just being started when its supervisor died.
                adoption.main = main_of(&adoption.dir);
            }
            if adoption.main == Some(identity) {
                adoption.report = Some(*report);
                adoption.pass_on();
            }
        }
    }
}

impl Adoption {
    fn note_death(&mut self, lived: Duration, has_failed: bool) {
        if lived >= LIVED_WELL {
            (self.deaths, self.failures) = (0, 0);
        }
        self.deaths += 1;
        self.failures += u32::from(has_failed);
        let pauses = self.deaths.saturating_sub(QUICK_DEATHS);
        self.reports = None;
        self.try_after(PAUSE_STEP.saturating_mul(pauses).min(PAUSE_MAX));
    }

    fn try_after(&mut self, pause: Duration) {
        self.due = Some(clock::since_boot() + pause);
    }

    /// Whether somebody has the job: then it is looked again later.
    fn is_held(&mut self) -> bool {
        if !lock::is_held(&self.dir.lock_path()).unwrap_or(false) {
            self.held_looks = 0;
            return false;
        }
        self.held_looks = self.held_looks.saturating_add(1);
        self.try_after(if self.held_looks < HELD_LOOKS { HELD_LOOK } else { HELD_LOOK_LATER });
        true
    }

    /// Takes hold of all that is needed: what is there already stays.
    fn hold(&mut self, found: &Orphaned) -> Result<(), SupervisorError> {
        if self.fifos.is_none() {
            self.fifos = Some(Fifos::open(&self.dir).map_err(system("open the FIFOs"))?);
            // Looked at when they are open: what lives now has lost nothing.
            self.may_lack_output = !found.is_alive();
        }
        if let Orphaned::Started(main) = found {
            self.main = Some((main.pid, main.start_ticks));
            if self.handle.is_none() {
                self.handle = PidFd::open_exactly(main.pid, main.start_ticks).ok().flatten();
            }
        }
        Ok(())
    }

    /// What a supervisor gets of it.
    fn inheritance(&mut self) -> Result<Inheritance, SupervisorError> {
        let make = |source| system("make what an adopted job needs")(source);
        let Some(fifos) = &self.fifos else {
            return Err(make(std::io::ErrorKind::NotFound.into()));
        };
        let fifos = fifos.try_clone().map_err(make)?;
        let main = self.handle.as_ref().map(PidFd::share).transpose().map_err(make)?;
        let (reports, writer) = supervisor::report_pipe().map_err(make)?;
        self.reports = Some(writer);
        self.pass_on();
        Ok(Inheritance {
            fifos,
            reports: Some(reports),
            main,
            may_lack_output: self.may_lack_output,
            is_last: self.failures >= FAILURES_MAX,
        })
    }

    fn pass_on(&mut self) {
        if let (Some(report), Some(pipe)) = (&self.report, &mut self.reports) {
            // It fits into an empty pipe; if nobody reads any more, the next supervisor will.
            let _ = pipe.write_all(report_line(report).as_bytes());
        }
    }
}

fn main_of(dir: &JobDir) -> Option<Identity> {
    match supervisor::orphaned(dir) {
        Ok(Orphaned::Started(main)) => Some((main.pid, main.start_ticks)),
        Ok(Orphaned::Queued | Orphaned::NotStarted | Orphaned::Ended) | Err(_) => None,
    }
}

impl Launcher {
    /// Adopts a job because the service asks for it: its supervisor was no child of this process.
    pub(super) fn adopt_asked(&mut self, id: JobId) {
        let is_ours = self.forked.values().any(|forked| forked.id == id);
        if is_ours || self.adoptions.0.contains_key(&id) {
            return;
        }
        let adoption = self.adoptions.entry(id, JobDir::at(self.layout.job(id)));
        if let Some(held) = self.kept.take(id) {
            (adoption.fifos, adoption.handle) = (held.fifos, held.main);
            adoption.may_lack_output = held.may_lack_output;
        }
        adoption.try_after(Duration::ZERO);
    }

    /// Plans another supervisor for a job of which one has died.
    pub(super) fn plan_adoption(
        &mut self,
        id: JobId,
        lived: Duration,
        has_failed: bool,
        keepers: Option<Fifos>,
    ) {
        let adoption = self.adoptions.entry(id, JobDir::at(self.layout.job(id)));
        if adoption.fifos.is_none() {
            adoption.fifos = keepers;
        }
        adoption.note_death(lived, has_failed);
    }

    /// Looks again at a job that another has: it is needed here until it has ended.
    pub(super) fn look_again(&mut self, id: JobId) {
        if let Some(adoption) = self.adoptions.0.get_mut(&id) {
            adoption.try_after(Duration::ZERO);
        }
    }

    /// Forks a supervisor for a job whose supervisor died.
    pub(super) fn adopt(&mut self, id: JobId) {
        let Some(adoption) = self.adoptions.0.get_mut(&id) else { return };
        let begun = match supervisor::orphaned(&adoption.dir) {
            Ok(Orphaned::Ended) => {
                self.end_adoption(id);
                return self.tell(Notice::Gone(id));
            }
            Ok(Orphaned::Queued) => {
                // Its supervisor could not even claim it: the queue has it again, after a pause.
                self.end_adoption(id);
                return self.tell(Notice::Refused(id, sys::EIO));
            }
            Ok(found) => {
                // Before anything else: what is held does not get lost.
                let held = adoption.hold(&found);
                if adoption.is_held() {
                    return;
                }
                held.and_then(|()| self.fork_adopter(id))
            }
            Err(error) => Err(error),
        };
        if let Err(error) = begun
            && let Some(adoption) = self.adoptions.0.get_mut(&id)
        {
            let source = std::error::Error::source(&error);
            let source = source.map(|source| format!(": {source}")).unwrap_or_default();
            eprintln!("jobwarden launcher: cannot take up the job {id} yet: {error}{source}");
            adoption.deaths = adoption.deaths.max(QUICK_DEATHS);
            adoption.note_death(Duration::ZERO, false);
        }
    }

    fn fork_adopter(&mut self, id: JobId) -> Result<(), SupervisorError> {
        let Some(adoption) = self.adoptions.0.get_mut(&id) else { return Ok(()) };
        if adoption.report.is_none() {
            adoption.report = adoption.main.and_then(|main| self.orphans.get(main));
        }
        let inheritance = adoption.inheritance()?;
        let dir = adoption.dir.clone();
        faults::point("launcher.adopting");
        let mut kept: Vec<_> = inheritance.fifos.0.iter().map(AsRawFd::as_raw_fd).collect();
        kept.extend(inheritance.reports.as_ref().map(AsRawFd::as_raw_fd));
        kept.extend(inheritance.main.as_ref().map(|main| main.as_fd().as_raw_fd()));
        let host = std::rc::Rc::clone(&self.host);
        let forked = self.fork(kept, || {
            Ok(match supervisor::adopt(&dir, inheritance, &host)? {
                Supervised::ToTheEnd => 0,
                Supervised::NotTaken => EXIT_LOOK,
            })
        });
        let forked = forked.map_err(system("fork"))?;
        self.note_fork(id, forked, None);
        Ok(())
    }

    /// A job needs no supervisor any more.
    pub(super) fn end_adoption(&mut self, id: JobId) {
        if self.adoptions.0.remove(&id).is_some() {
            self.may_have_strays = true;
        }
    }

    /// Once no adopted job is left, neither are processes of which nobody could tell whose they
    /// were. Those are killed that are there now, and no others: a job whose supervisor dies this
    /// very moment has its process here before anybody knows of it.
    pub(super) fn kill_strays(&mut self) {
        if !self.may_have_strays || !self.adoptions.0.is_empty() || self.sweeper.is_some() {
            return;
        }
        let children = tree::own_children().unwrap_or_default();
        let strays: Vec<Listed> = children
            .into_iter()
            .filter(|pid| !self.forked.contains_key(pid))
            .filter_map(|pid| {
                let start_ticks = process::start_ticks_of(pid).ok()??;
                Some(Listed { pid, start_ticks })
            })
            .collect();
        // A death that has not been taken in may be that of their supervisor.
        if !matches!(process::peek_any(), Ok(None)) {
            return;
        }
        self.may_have_strays = false;
        if strays.is_empty() {
            return;
        }
        match self.fork(Vec::new(), || supervisor::kill_strays(&strays).map(|()| 0)) {
            Ok(pid) => self.sweeper = Some(pid),
            Err(error) => {
                eprintln!("jobwarden launcher: cannot look for stray processes: {error}");
            }
        }
    }
}

/// Whether a supervisor gave up by itself.
pub(super) fn has_failed(ended: process::Ended) -> bool {
    ended == process::Ended::Exited(EXIT_FAILED)
}
