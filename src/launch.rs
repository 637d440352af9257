//! The launcher as the service sees it: a process to ask for supervisors, started again if it
//! dies. Nothing that it says is believed without a look at the folder.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    job::JobId,
    launch_message::{MESSAGE_BYTES_MAX, Notice, Request},
    store::Layout,
    sys::{fs, poll, socket},
};

/// How long a request waits for room in the socket before the launcher counts as stuck.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How often the notices' thread looks whether it is to end.
const STOP_CHECK: Duration = Duration::from_millis(500);
/// The pause before a launcher is started again that died soon after its start. One that lived
/// longer is followed at once: until then its jobs have one safeguard less.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// What counts as soon.
const SOON: Duration = Duration::from_secs(1);

/// The launcher of this service.
#[derive(Debug)]
pub struct Launch {
    layout: Layout,
    use_groups: bool,
    /// The soft limit of open files that jobs get: the one that this process was started with.
    open_files: u64,
    running: Mutex<Option<Running>>,
    is_stopping: AtomicBool,
}

#[derive(Debug)]
struct Running {
    process: Child,
    begun: Instant,
    socket: Arc<OwnedFd>,
}

impl Launch {
    /// Starts a launcher for the store at `root`; with `use_groups` jobs get control groups
    /// where the host lets us make them, and `open_files` is their soft limit of open files.
    pub fn start(root: &Path, use_groups: bool, open_files: u64) -> io::Result<Self> {
        let layout = Layout::new(root);
        let running = Mutex::new(Some(spawn(&layout, use_groups, open_files)?));
        Ok(Self { layout, use_groups, open_files, running, is_stopping: AtomicBool::new(false) })
    }

    /// A launcher that is only the other end of `socket`: no process takes the requests.
    #[cfg(test)]
    pub(crate) fn over(socket: OwnedFd, root: &Path) -> io::Result<Self> {
        let mut process = Command::new("true").spawn()?;
        process.wait()?;
        let running =
            Mutex::new(Some(Running { process, begun: Instant::now(), socket: Arc::new(socket) }));
        let is_stopping = AtomicBool::new(false);
        Ok(Self {
            layout: Layout::new(root),
            use_groups: false,
            open_files: 0,
            running,
            is_stopping,
        })
    }

    /// Asks for a supervisor for a queued job.
    pub fn launch(&self, id: JobId) -> io::Result<()> {
        self.send(Request::Launch(id))
    }

    /// Asks for a supervisor in the place of one that died.
    pub fn adopt(&self, id: JobId) -> io::Result<()> {
        self.send(Request::Adopt(id))
    }

    /// Asks to hold what a job needs to be adopted, which has a supervisor of another launcher.
    pub fn keep(&self, id: JobId) -> io::Result<()> {
        self.send(Request::Keep(id))
    }

    fn send(&self, request: Request) -> io::Result<()> {
        let socket = match &*self.lock() {
            Some(running) => Arc::clone(&running.socket),
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        socket::send_message_within(&*socket, request.to_string().as_bytes(), SEND_LIMIT)
    }

    /// Whether the launcher answers for itself now.
    pub fn is_alive(&self) -> bool {
        match &mut *self.lock() {
            Some(running) => matches!(running.process.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Passes on what the launcher tells, and starts another when it has died, until `stop`.
    /// `on_restart` is called after each new start: requests may have been lost.
    pub fn run(&self, on_notice: impl Fn(Notice), on_restart: impl Fn()) {
        while !self.is_stopping.load(Ordering::Relaxed) {
            let socket = self.lock().as_ref().map(|running| Arc::clone(&running.socket));
            let is_open = match socket {
                Some(socket) => receive(&socket, &on_notice),
                None => false,
            };
            if !is_open && !self.is_stopping.load(Ordering::Relaxed) {
                self.restart();
                on_restart();
            }
        }
        // Its socket closes with this: it stays for as long as it has supervisors.
        *self.lock() = None;
    }

    /// Lets `run` return and lets go of the launcher.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn restart(&self) {
        if self.lock().as_ref().is_none_or(|running| running.begun.elapsed() < SOON) {
            std::thread::sleep(RESTART_PAUSE);
        }
        let mut running = self.lock();
        if let Some(mut dead) = running.take() {
            // One that closed its socket is dead or about to be.
            let _ = dead.process.kill();
            let _ = dead.process.wait();
            tracing::warn!("the launcher has died; another is started");
        }
        match spawn(&self.layout, self.use_groups, self.open_files) {
            Ok(started) => *running = Some(started),
            Err(error) => tracing::error!(%error, "the launcher cannot be started"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what is there or waits a little; false once the other side is gone.
fn receive(socket: &OwnedFd, on_notice: &impl Fn(Notice)) -> bool {
    match poll::readable([Some(socket.as_fd())], Some(STOP_CHECK)) {
        Ok([true]) => {}
        Ok([false]) => return true,
        Err(_) => return false,
    }
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    match socket::receive_message(socket, &mut buffer) {
        Ok(0) => false,
        Ok(length) => {
            if let Some(notice) =
                str::from_utf8(&buffer[..length]).ok().and_then(|text| text.parse().ok())
            {
                on_notice(notice);
            }
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn spawn(layout: &Layout, use_groups: bool, open_files: u64) -> io::Result<Running> {
    let (ours, theirs) = socket::message_pair()?;
    let log = fs::open_to_append(&layout.supervisor_log())?;
    // No pre_exec: that would fork this process with all its memory. The launcher does for
    // itself what it needs.
    let process = Command::new(own_program())
        .arg0("jobwarden")
        .arg("launcher")
        .arg(layout.root())
        .arg(if use_groups { "groups" } else { "no-groups" })
        .arg(open_files.to_string())
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    Ok(Running { process, begun: Instant::now(), socket: Arc::new(ours) })
}

/// This very program, also after an upgrade has put another in its place.
fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
