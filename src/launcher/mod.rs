//! The loop that forks a supervisor for each job and reaps it.
//!
//! The launcher is small, has one thread and never touches the network, so that a fork of it is
//! cheap and safe. It is the subreaper above the supervisors: what one of them leaves when it is
//! killed becomes the launcher's child. Another supervisor takes its place, gets the FIFOs that
//! the launcher has kept, and is told how the job's process ends.
//! It outlives the service for as long as it has supervisors.

mod adoptions;
mod kept;
mod orphans;

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd},
    path::Path,
    rc::Rc,
    time::Duration,
};

use crate::{
    job::JobId,
    launch_message::{MESSAGE_BYTES_MAX, Notice, Request},
    store::{JobDir, Layout},
    supervisor::{self, Fifos, Host, Supervised, SupervisorError, system},
    sys::{
        self,
        cgroup::GroupParent,
        clock, faults, poll,
        process::{self, Ended},
        signal::{self, Signals},
        socket,
    },
};

use self::{adoptions::Adoptions, kept::Kept, orphans::Orphans};

/// Exit status of a process whose job may be left without an end.
const EXIT_FAILED: i32 = 70;
/// Exit status of a process after which the service should look at the job's folder.
const EXIT_LOOK: i32 = 3;

/// Jobs that are taken up before others get their turn, and statuses with them.
const ADOPTIONS_AT_ONCE: usize = 32;
/// How soon it is looked again for processes that belong to no job.
const STRAYS_PAUSE: Duration = Duration::from_millis(20);
/// Descriptors that are left free: what is kept for jobs must not use up the last.
const DESCRIPTORS_SPARE: i32 = 64;

struct Launcher {
    layout: Layout,
    service: Option<OwnedFd>,
    signals: Option<Signals>,
    /// The processes that were forked and not yet reaped.
    forked: HashMap<i32, Forked>,
    /// Orphans that were reaped.
    orphans: Orphans,
    adoptions: Adoptions,
    /// What is held for jobs that another launcher started.
    kept: Kept,
    /// Processes may be here that belong to no job any more, and who kills them.
    may_have_strays: bool,
    sweeper: Option<i32>,
    /// Keepers have lower numbers than this.
    descriptors_max: i32,
    /// Given up for a moment where a last descriptor is needed.
    spare: Option<std::fs::File>,
    host: Rc<Host>,
}

fn make_groups() -> Option<GroupParent> {
    // Each launcher has its own: one that outlives its service goes on beside the next.
    GroupParent::create(&format!("jobwarden-{}", process::own_pid()))
}

struct Forked {
    id: JobId,
    /// When it was forked, on the boot clock.
    begun: Duration,
    /// Held open so that no byte in a FIFO is lost if the supervisor dies.
    keepers: Option<Fifos>,
}

/// Serves requests from the socket on standard input until it closes and no supervisor is left.
/// With `use_groups` jobs get control groups where the host lets us make them.
/// `open_files` is the soft limit of open files that they get.
pub fn run(root: &Path, use_groups: bool, open_files: Option<u64>) -> Result<(), SupervisorError> {
    // The leader of a session already has one of its own.
    let _ = process::leave_session();
    process::forbid_dumps();
    process::set_name(c"jobwarden-lnch");
    faults::role(faults::Role::Launcher);
    process::set_private_umask();
    process::become_subreaper().map_err(system("become a subreaper"))?;
    let service = sys::fs::take_stdin().map_err(system("take the socket"))?;
    signal::set_all_to_default();
    let signals = Signals::take().map_err(system("take signals"))?;
    supervisor::warm_up();
    let mut launcher = Launcher {
        layout: Layout::new(root),
        service: Some(service),
        signals: Some(signals),
        forked: HashMap::new(),
        orphans: Orphans::default(),
        adoptions: Adoptions::default(),
        kept: Kept::default(),
        may_have_strays: false,
        sweeper: None,
        descriptors_max: process::open_files_max().saturating_sub(DESCRIPTORS_SPARE),
        spare: std::fs::File::open("/dev/null").ok(),
        host: Rc::new(Host { groups: use_groups.then(make_groups).flatten(), open_files }),
    };
    while launcher.is_needed() {
        launcher.step()?;
    }
    if let Some(groups) = &launcher.host.groups {
        let _ = groups.remove();
    }
    Ok(())
}

impl Launcher {
    /// Whether there is anybody to serve or anything to look after. What is kept for other
    /// launchers' jobs does not count: the next service's launcher keeps it as well.
    fn is_needed(&self) -> bool {
        let is_busy = !self.forked.is_empty() || self.adoptions.are_due();
        self.service.is_some() || is_busy || self.may_have_strays || self.sweeper.is_some()
    }

    fn step(&mut self) -> Result<(), SupervisorError> {
        let socket = self.service.as_ref().map(|socket| socket.as_fd());
        let signals = self.signals.as_ref().map(|signals| signals.as_fd());
        let now = clock::since_boot();
        let strays = self.may_have_strays.then_some(now + STRAYS_PAUSE);
        let wake =
            [strays, self.adoptions.next_try(), self.kept.next_look()].into_iter().flatten().min();
        let limit = wake.map(|at| at.saturating_sub(now));
        let [has_message, has_signal] =
            poll::readable([socket, signals], limit).map_err(system("poll"))?;
        if has_signal {
            self.reap()?;
        }
        if has_message {
            self.take_request();
        }
        let now = clock::since_boot();
        self.kept.look(now);
        for _ in 0..ADOPTIONS_AT_ONCE {
            let Some(id) = self.adoptions.take_due(now) else { break };
            self.adopt(id);
        }
        self.kill_strays();
        Ok(())
    }

    fn take_request(&mut self) {
        let Some(socket) = &self.service else { return };
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        match socket::receive_message(socket, &mut buffer) {
            // The service is gone. Its successor starts a launcher of its own.
            Ok(0) => self.service = None,
            Ok(length) => {
                let text = str::from_utf8(&buffer[..length]).unwrap_or_default();
                match text.parse() {
                    Ok(Request::Launch(id)) => self.launch(id),
                    Ok(Request::Adopt(id)) => self.adopt_asked(id),
                    Ok(Request::Keep(id)) => self.kept.add(id, JobDir::at(self.layout.job(id))),
                    Err(error) => eprintln!("jobwarden launcher: {error}: {text:?}"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.service = None,
        }
    }

    fn launch(&mut self, id: JobId) {
        faults::point("launcher.asked");
        let dir = JobDir::at(self.layout.job(id));
        let fifos = match Fifos::open(&dir) {
            Ok(fifos) => fifos,
            Err(error) => return self.refuse(id, &error),
        };
        let keepers = match fifos.try_clone() {
            Ok(keepers) if self.is_room_for(&keepers) => Some(keepers),
            // Short of descriptors: the job runs, with one safeguard less.
            Ok(_) => None,
            Err(error) => {
                eprintln!("jobwarden launcher: job {id} has no keepers: {error}");
                None
            }
        };
        let host = Rc::clone(&self.host);
        let kept = fifos.0.iter().map(AsRawFd::as_raw_fd).collect();
        let work = move || {
            let supervised = supervisor::supervise(dir, fifos, &host)?;
            Ok(match supervised {
                Supervised::ToTheEnd => 0,
                Supervised::NotTaken => EXIT_LOOK,
            })
        };
        let forked = self.fork(kept, work);
        faults::point("launcher.forked");
        match forked {
            Ok(pid) => self.note_fork(id, pid, keepers),
            Err(error) => self.refuse(id, &error),
        }
    }

    /// Forks a process that does `work` and exits. The copy gives up what is the launcher's.
    /// It keeps the descriptors `kept`, no others.
    fn fork(
        &mut self,
        kept: Vec<RawFd>,
        work: impl FnOnce() -> Result<i32, SupervisorError>,
    ) -> io::Result<i32> {
        let service = &mut self.service;
        let signals = &mut self.signals;
        let forked = &mut self.forked;
        let (kept_jobs, adoptions) = (&mut self.kept, &mut self.adoptions);
        process::fork_and_run(move || {
            // The socket, and the keepers of the FIFOs of every other job: closed in one call
            // however many they are, so that a start costs the same with a thousand running.
            std::mem::forget((service.take(), signals.take(), std::mem::take(forked)));
            std::mem::forget((std::mem::take(kept_jobs), std::mem::take(adoptions)));
            sys::fs::close_all_but(&kept);
            match work() {
                Ok(code) => code,
                Err(error) => {
                    let source = std::error::Error::source(&error);
                    let source = source.map(|source| format!(": {source}")).unwrap_or_default();
                    eprintln!("jobwarden supervisor: {error}{source}");
                    EXIT_FAILED
                }
            }
        })
    }

    /// Whether descriptors as high as these leave enough for everything else.
    fn is_room_for(&self, keepers: &Fifos) -> bool {
        let last = keepers.0.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(0);
        last < self.descriptors_max
    }

    fn note_fork(&mut self, id: JobId, pid: i32, keepers: Option<Fifos>) {
        self.forked.insert(pid, Forked { id, begun: clock::since_boot(), keepers });
    }

    fn refuse(&mut self, id: JobId, error: &io::Error) {
        eprintln!("jobwarden launcher: cannot start a supervisor for {id}: {error}");
        self.tell(Notice::Refused(id, sys::errno(error)));
    }

    fn tell(&mut self, notice: Notice) {
        if let Some(socket) = &self.service {
            // A hint that does not fit into the socket costs time, nothing else.
            let _ = socket::send_message(socket, notice.to_string().as_bytes());
        }
    }

    /// Takes the status of all that has ended: supervisors, and orphans of dead ones.
    fn reap(&mut self) -> Result<(), SupervisorError> {
        if let Some(signals) = &self.signals {
            while signals.next().map_err(system("read signals"))?.is_some() {}
        }
        while let Some((pid, ended, resources)) = process::peek_any().map_err(system("reap"))? {
            if let Some(forked) = self.forked.remove(&pid) {
                process::reap(pid).map_err(system("reap"))?;
                self.note_end(forked, ended);
                continue;
            }
            if self.sweeper == Some(pid) {
                self.sweeper = None;
            }
            faults::point("launcher.orphan");
            // Looked at while it is a zombie: its number is its own until it is reaped, and if
            // this process dies before, the status is still there for the next. It takes a
            // descriptor, which is there even if all others are used.
            self.spare = None;
            if let Some((identity, report)) = orphans::report(pid, ended, resources) {
                self.adoptions.report(identity, &report);
                self.orphans.note(identity, report);
            }
            self.spare = std::fs::File::open("/dev/null").ok();
            process::reap(pid).map_err(system("reap"))?;
        }
        Ok(())
    }

    /// What follows when a forked process has ended.
    fn note_end(&mut self, forked: Forked, ended: Ended) {
        let id = forked.id;
        match ended {
            // It has told the end itself, in the folder.
            Ended::Exited(0) => self.end_adoption(id),
            Ended::Exited(EXIT_LOOK) => {
                self.look_again(id);
                self.tell(Notice::Gone(id));
            }
            Ended::Exited(_) | Ended::Signaled(..) => {
                let lived = clock::since_boot().saturating_sub(forked.begun);
                self.plan_adoption(id, lived, adoptions::has_failed(ended), forked.keepers);
            }
        }
    }
}
