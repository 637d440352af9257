//! Supervisors in the place of dead ones.

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
        clock, faults,
        process::{self, ExitReport},
        tree,
    },
};

use super::{EXIT_LOOK, Launcher, orphans::Identity};

/// Deaths after each of which the next supervisor follows at once.
const QUICK_DEATHS: u32 = 8;
/// What the pause before the next grows by with each further death, and its bound.
const PAUSE_STEP: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A supervisor that lived this long begins a new count.
const LIVED_WELL: Duration = Duration::from_mins(1);

/// Jobs whose supervisors have died here: at most those that run.
#[derive(Debug, Default)]
pub(super) struct Adoptions(HashMap<JobId, Adoption>);

#[derive(Debug, Default)]
struct Adoption {
    deaths: u32,
    /// When the next supervisor is due, on the boot clock; `None` while there is one.
    due: Option<Duration>,
    keepers: Option<Fifos>,
    may_lack_output: bool,
    /// The main process, once it is known.
    main: Option<Identity>,
    dir: Option<JobDir>,
    report: Option<ExitReport>,
    /// Where its supervisor hears how the main process ended.
    reports: Option<File>,
}

impl Adoptions {
    /// Plans another supervisor for a job of which one has died after a while.
    pub(super) fn plan(&mut self, id: JobId, deaths: u32, lived: Duration, keepers: Option<Fifos>) {
        let deaths = if lived >= LIVED_WELL { 1 } else { deaths };
        let pause = PAUSE_STEP.saturating_mul(deaths.saturating_sub(QUICK_DEATHS)).min(PAUSE_MAX);
        let adoption = self.0.entry(id).or_default();
        adoption.deaths = deaths;
        adoption.due = Some(clock::since_boot() + pause);
        adoption.keepers = keepers.or(adoption.keepers.take());
        adoption.reports = None;
    }

    /// Whether any job waits for a supervisor.
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
            if adoption.main.is_none()
                && let Some(dir) = &adoption.dir
            {
                // It was just being started when its supervisor died.
                adoption.main = main_of(dir);
            }
            if adoption.main == Some(identity) {
                adoption.report = Some(*report);
                adoption.pass_on();
            }
        }
    }
}

impl Adoption {
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
        Ok(Orphaned::NotStarted | Orphaned::Ended) | Err(_) => None,
    }
}

impl Launcher {
    /// Adopts a job because the service asks for it: its supervisor was no child of this process.
    pub(super) fn adopt_asked(&mut self, id: JobId) {
        let is_ours = self.forked.values().any(|forked| forked.id == id);
        if !is_ours && !self.adoptions.0.contains_key(&id) {
            self.adoptions.plan(id, 0, Duration::ZERO, None);
        }
    }

    /// Forks a supervisor for a job whose supervisor died.
    pub(super) fn adopt(&mut self, id: JobId) {
        let dir = JobDir::at(self.layout.job(id));
        match supervisor::orphaned(&dir) {
            Ok(Orphaned::NotStarted | Orphaned::Started(_)) => {}
            Ok(Orphaned::Ended) => return self.give_up(id),
            Err(_) if !dir.lock_path().exists() => return self.give_up(id),
            Err(error) => return self.try_later(id, &error.to_string()),
        }
        match self.fork_adopter(id, &dir) {
            Ok(()) => {}
            Err(error) => self.try_later(id, &error.to_string()),
        }
    }

    fn fork_adopter(&mut self, id: JobId, dir: &JobDir) -> Result<(), SupervisorError> {
        let held = self.kept.take(id);
        let (kept_fifos, main, kept_lack) =
            held.map_or((None, None, false), |held| (held.fifos, held.main, held.may_lack_output));
        let Some(adoption) = self.adoptions.0.get_mut(&id) else { return Ok(()) };
        let keepers = if let Some(keepers) = adoption.keepers.take() {
            keepers
        } else if let Some(kept) = kept_fifos {
            adoption.may_lack_output = kept_lack;
            kept
        } else {
            let fifos = Fifos::open(dir).map_err(system("open the FIFOs"))?;
            // Looked at when they are open: what lives now has lost nothing.
            adoption.may_lack_output = !supervisor::orphaned(dir)?.is_alive();
            fifos
        };
        let needed = keepers.try_clone().and_then(|fifos| Ok((fifos, supervisor::report_pipe()?)));
        let (fifos, (reports, writer)) = match needed {
            Ok(needed) => needed,
            Err(error) => {
                adoption.keepers = Some(keepers);
                return Err(system("make what an adopted job needs")(error));
            }
        };
        let deaths = adoption.deaths;
        adoption.reports = Some(writer);
        adoption.dir = Some(dir.clone());
        adoption.main = adoption.main.or_else(|| main_of(dir));
        if adoption.report.is_none() {
            adoption.report = adoption.main.and_then(|main| self.orphans.get(main));
        }
        adoption.pass_on();
        faults::point("launcher.adopting");
        let mut kept: Vec<_> = fifos.0.iter().map(AsRawFd::as_raw_fd).collect();
        kept.push(reports.as_raw_fd());
        kept.extend(main.as_ref().map(|main| main.as_fd().as_raw_fd()));
        let host = std::rc::Rc::clone(&self.host);
        let may_lack_output = adoption.may_lack_output;
        let inheritance = Inheritance { fifos, reports: Some(reports), main, may_lack_output };
        let forked = self.fork(kept, || {
            Ok(match supervisor::adopt(dir, inheritance, &host)? {
                Supervised::ToTheEnd => 0,
                Supervised::NotTaken => EXIT_LOOK,
            })
        });
        let forked = forked.map_err(system("fork"))?;
        self.note_fork(id, Ok(forked), Some(keepers), deaths);
        Ok(())
    }

    fn try_later(&mut self, id: JobId, why: &str) {
        eprintln!("jobwarden launcher: cannot take up the job {id} yet: {why}");
        let deaths = self.adoptions.0.get(&id).map_or(0, |adoption| adoption.deaths);
        self.adoptions.plan(id, deaths.max(QUICK_DEATHS) + 1, Duration::ZERO, None);
    }

    fn give_up(&mut self, id: JobId) {
        self.end_adoption(id);
        self.tell(Notice::Gone(id));
    }

    /// A job needs no supervisor any more. Once no adopted one is left, neither are processes that
    /// nobody could tell whose they are.
    pub(super) fn end_adoption(&mut self, id: JobId) {
        if self.adoptions.0.remove(&id).is_none() || !self.adoptions.0.is_empty() {
            return;
        }
        let children = tree::own_children().unwrap_or_default();
        if children.iter().all(|pid| self.forked.contains_key(pid)) {
            return;
        }
        let launcher = process::own_pid();
        if let Err(error) = self.fork(Vec::new(), || supervisor::kill_strays(launcher).map(|()| 0))
        {
            eprintln!("jobwarden launcher: cannot look for stray processes: {error}");
        }
    }
}
