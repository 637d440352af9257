//! A service of a test's own: the real binary on a root that goes with the test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use jobwarden::api::job_service_client::JobServiceClient;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use super::{
    DEADLINE, LOOK_EVERY,
    connect::{connect, connect_to_socket},
    eventually,
    process::{Process, carriers, children_of, kill_process, signal_process},
    within,
};

pub(super) const BINARY: &str = env!("CARGO_BIN_EXE_jobwarden");
const REPLY_BYTES_MAX: usize = 64 << 20;

/// How a service is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Flags beyond root and addresses. Without `--durability` nothing is synced: it is faster.
    pub(crate) flags: Vec<String>,
    /// Variables beyond PATH and HOME.
    pub(crate) env: Vec<(String, String)>,
    /// Another copy of the program than the one that was built.
    pub(crate) binary: Option<PathBuf>,
    /// Whether SIGHUP is ignored when the program starts, as under `nohup`.
    pub(crate) is_hangup_ignored: bool,
    /// Whether calls over TCP need a token.
    pub(crate) needs_token: bool,
}

impl Setup {
    pub(crate) fn flags(flags: &[&str]) -> Setup {
        Setup { flags: flags.iter().map(ToString::to_string).collect(), ..Setup::default() }
    }
}

/// A running service.
pub(crate) struct Daemon {
    pub(crate) setup: Setup,
    root: PathBuf,
    process: Child,
    /// Every launcher that was ever started for this root, for the cleaning up.
    launchers: Vec<Process>,
    lines: Arc<Mutex<Vec<String>>>,
    tcp: SocketAddr,
    api: JobServiceClient<Channel>,
    /// Gone last: the root is in it.
    folder: Option<TempDir>,
}

impl Daemon {
    /// A service on a new root.
    pub(crate) async fn start() -> Daemon {
        Daemon::start_with(Setup::default()).await
    }

    pub(crate) async fn start_with(setup: Setup) -> Daemon {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root = folder.path().join("root");
        Daemon::start_on(setup, root, folder).await
    }

    /// A service on a new root; `None` if it ends before it serves.
    #[cfg(feature = "faults")]
    pub(crate) async fn start_if_it_can(setup: Setup) -> Option<Daemon> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let root = folder.path().join("root");
        Daemon::try_start_on(setup, root, folder).await.ok()
    }

    /// A service on a root inside `folder`, which goes with the service.
    pub(crate) async fn start_on(setup: Setup, root: PathBuf, folder: TempDir) -> Daemon {
        let started = Daemon::try_start_on(setup, root, folder).await;
        started.unwrap_or_else(|lines| panic!("the service did not start: {lines:#?}"))
    }

    /// The same; what it wrote if it ended before it served.
    async fn try_start_on(
        setup: Setup,
        root: PathBuf,
        folder: TempDir,
    ) -> Result<Daemon, Vec<String>> {
        let (mut process, mut lines_read, lines) = launch(&setup, &root);
        let tcp = within("the service is ready", ready(&mut lines_read)).await;
        let Some(tcp) = tcp else {
            let _ = process.wait();
            return Err(lines.lock().expect("no panic").clone());
        };
        let launchers = children_of(pid_of(&process)).into_iter().filter_map(Process::of).collect();
        // With TLS a test brings a client of its own.
        let is_plain = !setup.flags.iter().any(|flag| flag == "--tls-cert");
        let channel = if is_plain { connect(tcp).await } else { connect_to_socket(&root).await };
        let api = JobServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        let folder = Some(folder);
        Ok(Daemon { setup, root, process, launchers, lines, tcp, api, folder })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that holds the root and whatever a test puts beside it.
    pub(crate) fn beside(&self) -> &Path {
        self.folder.as_ref().expect("taken at the end only").path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("jobwarden.sock")
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    pub(crate) fn pid(&self) -> i32 {
        pid_of(&self.process)
    }

    /// What the service has written to standard error.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic while it was held").clone()
    }

    /// A client over TCP, whose principal is `anonymous`.
    pub(crate) fn api(&self) -> JobServiceClient<Channel> {
        self.api.clone()
    }

    /// A connection of its own, for what another service of the same address offers.
    pub(crate) async fn channel(&self) -> Channel {
        connect(self.tcp).await
    }

    /// A client over the unix socket, whose principal is the user.
    pub(crate) async fn api_over_socket(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.socket_channel().await)
    }

    /// A connection of its own over the unix socket.
    pub(crate) async fn socket_channel(&self) -> Channel {
        connect_to_socket(&self.root).await
    }

    /// The launcher that the service uses now.
    pub(crate) fn launcher(&self) -> i32 {
        let children = children_of(self.pid());
        assert_eq!(children.len(), 1, "a service has one child: {children:?}");
        children[0]
    }

    /// The launcher, if it has not just died.
    pub(crate) fn launcher_if_any(&self) -> Option<i32> {
        children_of(self.pid()).first().copied()
    }

    /// The folder of a job.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        let days = fs::read_dir(self.root.join("jobs")).expect("a store has jobs/");
        let mut folders = days.flatten().map(|day| day.path().join(id));
        folders.find(|folder| folder.is_dir()).expect("the job has a folder")
    }

    /// The slots of a job's `state.jsonl`.
    pub(crate) fn slots(&self, id: &str) -> Vec<serde_json::Value> {
        slots_of(&self.folder(id))
    }

    /// The process id of a running job's supervisor, as its folder tells it.
    pub(crate) fn supervisor(&self, id: &str) -> i32 {
        self.supervisor_if_any(id).expect("the supervisor lives")
    }

    /// The process id of a job's supervisor, if its folder tells of one that lives.
    pub(crate) fn supervisor_if_any(&self, id: &str) -> Option<i32> {
        let slots = self.slots(id);
        let last = slots.iter().rev().find(|slot| slot["supervisor"].is_object())?;
        process_in(&last["supervisor"]).filter(Process::is_alive).map(|process| process.pid)
    }

    /// What the log of standard output holds now.
    pub(crate) fn stdout_so_far(&self, id: &str) -> String {
        fs::read_to_string(self.folder(id).join("stdout.log")).unwrap_or_default()
    }

    /// Whether the service lives.
    #[cfg(feature = "faults")]
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Kills the service alone, as the kernel would, and waits for its death.
    pub(crate) fn kill(&mut self) {
        self.note_launchers();
        kill_process(self.pid());
        let _ = self.process.wait();
    }

    /// Starts the service again on the same root.
    pub(crate) async fn restart(mut self) -> Daemon {
        self.note_launchers();
        let setup = self.setup.clone();
        let root = self.root.clone();
        let folder = self.folder.take().expect("taken at the end only");
        let mut launchers = std::mem::take(&mut self.launchers);
        drop(self);
        let mut next = Daemon::start_on(setup, root, folder).await;
        launchers.append(&mut next.launchers);
        next.launchers = launchers;
        next
    }

    /// Kills the service and starts it again; launcher, supervisors and jobs are left alone.
    pub(crate) async fn kill_and_restart(mut self) -> Daemon {
        self.kill();
        self.restart().await
    }

    /// Asks the service to drain.
    pub(crate) fn terminate(&mut self) {
        self.note_launchers();
        signal_process(self.pid(), Signal::SIGTERM);
    }

    /// Sends the service a SIGHUP.
    pub(crate) fn hang_up(&self) {
        signal_process(self.pid(), Signal::SIGHUP);
    }

    /// Waits for the end of the service, which something has asked for.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        eventually("the end of the service", || process.try_wait().expect("it is our child")).await
    }

    fn note_launchers(&mut self) {
        for launcher in children_of(self.pid()).into_iter().filter_map(Process::of) {
            if !self.launchers.contains(&launcher) {
                self.launchers.push(launcher);
            }
        }
    }

    /// Ends every process that came from this root, by its id: the jobs' first, whose supervisors
    /// and launchers then go by themselves.
    fn clean_up(&mut self) {
        let begin = Instant::now();
        loop {
            for folder in active_folders(&self.root) {
                let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // The id is unguessable: who carries it was started by this service.
                for pid in carriers(&format!("JOBWARDEN_JOB_ID={id}")) {
                    kill_process(pid);
                }
            }
            if !self.launchers.iter().any(Process::is_alive) {
                return;
            }
            if begin.elapsed() >= DEADLINE {
                self.launchers.iter().for_each(Process::kill);
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.folder.is_none() {
            // The next service has the root.
            return;
        }
        self.note_launchers();
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.clean_up();
        if std::thread::panicking() {
            eprintln!("the service wrote:\n{}", self.lines().join("\n"));
        }
    }
}

/// Runs `jobwarden serve` to its end, which must come by itself; tells its code and its text.
pub(crate) async fn serve_to_end(flags: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    command.arg("serve").args(flags).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the binary starts");
    let pid = pid_of(&process);
    let waited = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(status) = process.try_wait().expect("it is our child") {
                return status;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    let Ok(status) = waited.await else {
        kill_process(pid);
        panic!("the service goes on, but should have ended");
    };
    let mut text = String::new();
    let mut stderr = process.stderr.take().expect("it is a pipe");
    std::io::Read::read_to_string(&mut stderr, &mut text).expect("it is text");
    (status.code(), text)
}

type Lines = Arc<Mutex<Vec<String>>>;

fn launch(setup: &Setup, root: &Path) -> (Child, mpsc::UnboundedReceiver<String>, Lines) {
    let mut command = if setup.is_hangup_ignored {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", BINARY]);
        command
    } else {
        Command::new(setup.binary.as_deref().unwrap_or(Path::new(BINARY)))
    };
    command.arg("serve").arg("--root").arg(root);
    command.args(["--listen", "127.0.0.1:0"]);
    command.arg("--listen").arg(format!("unix:{}", root.join("jobwarden.sock").display()));
    if !setup.flags.iter().any(|flag| flag == "--durability") {
        command.args(["--durability", "process"]);
    }
    command.args((!setup.needs_token).then_some("--insecure-loopback-without-token"));
    command.args(&setup.flags);
    let home = root.parent().expect("the root is in a folder of the test");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", home);
    command.envs(setup.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the binary starts");
    let stderr = BufReader::new(process.stderr.take().expect("it is a pipe"));
    let lines = Lines::default();
    let (sender, receiver) = mpsc::unbounded_channel();
    let kept = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            kept.lock().expect("no panic while it was held").push(line.clone());
            // Nobody listens any more once the service is ready.
            let _ = sender.send(line);
        }
    });
    (process, receiver, lines)
}

/// The TCP address, once both addresses are listened on; none if the service has ended.
async fn ready(lines: &mut mpsc::UnboundedReceiver<String>) -> Option<SocketAddr> {
    let (mut tcp, mut is_on_socket) = (None, false);
    while tcp.is_none() || !is_on_socket {
        let line = lines.recv().await?;
        if let Some(address) = line.strip_prefix("listening on ") {
            match address.strip_prefix("unix:") {
                Some(_) => is_on_socket = true,
                None => tcp = Some(address.parse().expect("it is an address")),
            }
        }
    }
    tcp
}

fn pid_of(process: &Child) -> i32 {
    i32::try_from(process.id()).expect("a process id fits")
}

/// The folders of jobs that have not ended.
fn active_folders(root: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(root.join("active")).into_iter().flatten().flatten();
    let days = || fs::read_dir(root.join("jobs")).into_iter().flatten().flatten();
    names
        .flat_map(|name| days().map(move |day| day.path().join(name.file_name())))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The whole slots of a job, as `jq` would read them.
fn slots_of(folder: &Path) -> Vec<serde_json::Value> {
    let text = fs::read(folder.join("state.jsonl")).unwrap_or_default();
    let slots = text.split(|byte| *byte == b'\n');
    slots.filter_map(|slot| serde_json::from_slice(slot).ok()).collect()
}

fn process_in(identity: &serde_json::Value) -> Option<Process> {
    let pid = i32::try_from(identity["pid"].as_i64()?).ok()?;
    Process::recorded(pid, identity["start_ticks"].as_u64()?)
}
