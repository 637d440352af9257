//! The loop that forks a supervisor for each job and reaps it.
//!
//! The launcher is small, has one thread and never touches the network, so that a fork of it is
//! cheap and safe. It is the subreaper above the supervisors: what one of them leaves when it is
//! killed becomes the launcher's child, and is killed with the job's end recorded as LOST.
//! It outlives the service for as long as it has supervisors.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd, RawFd},
    path::Path,
    rc::Rc,
};

use crate::{
    job::JobId,
    launch_message::{MESSAGE_BYTES_MAX, Notice, Request},
    store::{JobDir, Layout},
    supervisor::{self, Fifos, Host, Supervised, SupervisorError, system},
    sys::{
        self,
        cgroup::GroupParent,
        poll,
        process::{self, Ended},
        signal::{self, Signals},
        socket,
    },
};

/// Exit status of a process whose job may be left without an end.
const EXIT_FAILED: i32 = 70;
/// Exit status of a process after which the service should look at the job's folder.
const EXIT_LOOK: i32 = 3;
/// How often a job whose supervisor died is tried to be ended.
const BURIALS_MAX: u32 = 5;

/// What people read about a job whose supervisor died.
const LOST: &str = "Its supervisor died; how the process ended is not known.";

struct Launcher {
    layout: Layout,
    service: Option<OwnedFd>,
    signals: Option<Signals>,
    /// The processes that were forked and not yet reaped.
    forked: HashMap<i32, Forked>,
    host: Rc<Host>,
}

fn make_groups() -> Option<GroupParent> {
    // Each launcher has its own: one that outlives its service goes on beside the next.
    GroupParent::create(&format!("jobwarden-{}", process::own_pid()))
}

struct Forked {
    id: JobId,
    burials: u32,
    /// Held open so that no byte in a FIFO is lost if the supervisor dies.
    _keepers: Option<Fifos>,
}

/// Serves requests from the socket on standard input until it closes and no supervisor is left.
/// With `use_groups` jobs get control groups where the host lets us make them.
/// `open_files` is the soft limit of open files that they get.
pub fn run(root: &Path, use_groups: bool, open_files: Option<u64>) -> Result<(), SupervisorError> {
    // The leader of a session already has one of its own.
    let _ = process::leave_session();
    process::set_name(c"jobwarden-lnch");
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
        host: Rc::new(Host { groups: use_groups.then(make_groups).flatten(), open_files }),
    };
    while launcher.service.is_some() || !launcher.forked.is_empty() {
        launcher.step()?;
    }
    if let Some(groups) = &launcher.host.groups {
        let _ = groups.remove();
    }
    Ok(())
}

impl Launcher {
    fn step(&mut self) -> Result<(), SupervisorError> {
        let socket = self.service.as_ref().map(|socket| socket.as_fd());
        let signals = self.signals.as_ref().map(|signals| signals.as_fd());
        let [has_message, has_signal] =
            poll::readable([socket, signals], None).map_err(system("poll"))?;
        if has_signal {
            self.reap()?;
        }
        if has_message {
            self.take_request();
        }
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
                    Ok(Request::Bury(id)) => self.bury(id, 1),
                    Err(error) => eprintln!("jobwarden launcher: {error}: {text:?}"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.service = None,
        }
    }

    fn launch(&mut self, id: JobId) {
        let dir = JobDir::at(self.layout.job(id));
        let fifos = match Fifos::open(&dir) {
            Ok(fifos) => fifos,
            Err(error) => return self.refuse(id, &error),
        };
        let keepers = match fifos.try_clone() {
            Ok(keepers) => Some(keepers),
            Err(error) => {
                // Short of descriptors: the job runs, with one safeguard less.
                eprintln!("jobwarden launcher: job {id} has no keepers: {error}");
                None
            }
        };
        let host = Rc::clone(&self.host);
        let kept = fifos.0.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        let work = move || {
            let supervised = supervisor::supervise(dir, fifos, &host)?;
            Ok(match supervised {
                Supervised::ToTheEnd => 0,
                Supervised::NotTaken => EXIT_LOOK,
            })
        };
        let forked = self.fork(kept, work);
        self.note_fork(id, forked, keepers, 0);
    }

    fn bury(&mut self, id: JobId, burials: u32) {
        let dir = JobDir::at(self.layout.job(id));
        let launcher = process::own_pid();
        let forked =
            self.fork(Vec::new(), || supervisor::bury(dir, launcher, LOST).map(|()| EXIT_LOOK));
        self.note_fork(id, forked, None, burials);
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
        process::fork_and_run(move || {
            // The socket, and the keepers of the FIFOs of every other job: closed in one call
            // however many they are, so that a start costs the same with a thousand running.
            std::mem::forget((service.take(), signals.take(), std::mem::take(forked)));
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

    fn note_fork(
        &mut self,
        id: JobId,
        forked: io::Result<i32>,
        keepers: Option<Fifos>,
        burials: u32,
    ) {
        match forked {
            Ok(pid) => {
                self.forked.insert(pid, Forked { id, burials, _keepers: keepers });
            }
            Err(error) => self.refuse(id, &error),
        }
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
        while let Some((pid, ended)) = process::reap_any().map_err(system("reap"))? {
            let Some(Forked { id, burials, _keepers }) = self.forked.remove(&pid) else { continue };
            match ended {
                // It has told the end itself, in the folder.
                Ended::Exited(0) => {}
                Ended::Exited(EXIT_LOOK) => self.tell(Notice::Gone(id)),
                Ended::Exited(_) | Ended::Signaled(..) if burials < BURIALS_MAX => {
                    self.bury(id, burials + 1);
                }
                Ended::Exited(_) | Ended::Signaled(..) => self.tell(Notice::Gone(id)),
            }
        }
        Ok(())
    }
}
