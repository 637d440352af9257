//! The real program on a folder of its own, and what the kernel counts for it.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hyper_util::rt::TokioIo;
use jobwarden::api::job_service_client::JobServiceClient;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

const TICKS_PER_SECOND: f64 = 100.0;

/// As the program's own client has it.
const FRAME_BYTES_MAX: u32 = 512 << 10;

/// A running service.
pub(crate) struct Service {
    process: Child,
    address: String,
    channel: Channel,
    folder: TempDir,
}

impl Service {
    /// Starts the program in a new folder below `folder`.
    pub(crate) async fn start(folder: &Path, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a folder can be made");
        Self::start_in(folder, "127.0.0.1:0", flags).await
    }

    /// The same on a unix socket in that folder.
    pub(crate) async fn start_on_socket(folder: &Path, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a folder can be made");
        let address = format!("unix:{}", folder.path().join("socket").display());
        Self::start_in(folder, &address, flags).await
    }

    async fn start_in(folder: TempDir, listen: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobwarden"));
        command.args(["serve", "--listen", listen, "--log-filter", "error", "--root"]);
        command.arg(folder.path().join("root")).arg("--insecure-loopback-without-token");
        command.args(flags);
        let (process, address) = listening(&mut command);
        let channel = connect(&address).await;
        Self { process, address, channel, folder }
    }

    /// A client on a connection of its own.
    pub(crate) async fn connect(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(connect(&self.address).await)
    }

    /// A client on the one connection.
    pub(crate) fn client(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// The folder that goes with the service.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The number of the service's process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The number of its launcher.
    pub(crate) fn launcher(&self) -> u32 {
        children(self.pid()).first().copied().unwrap_or(0)
    }

    /// How many threads the service has.
    pub(crate) fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid())).map_or(0, Iterator::count)
    }

    /// Processor time of the service, the launcher, and all that the launcher has reaped.
    pub(crate) fn cpu_ms(&self) -> f64 {
        let launcher = self.launcher();
        own_cpu_ms(self.pid()) + own_cpu_ms(launcher) + children_cpu_ms(launcher)
    }

    /// Processor time of the service's process alone.
    pub(crate) fn own_cpu_ms(&self) -> f64 {
        own_cpu_ms(self.pid())
    }

    /// Ends the service; its jobs must have ended.
    pub(crate) async fn stop(mut self) {
        drop(self.channel);
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        tokio::task::yield_now().await;
    }
}

/// Starts a program that tells on standard error where it listens.
pub(crate) fn listening(command: &mut Command) -> (Child, String) {
    let process = command.stderr(Stdio::piped()).spawn();
    let mut process = process.expect("the program can be started");
    let errors = process.stderr.take().expect("it is piped");
    let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
    let address = address.expect("it tells its address");
    std::thread::spawn(move || lines.for_each(drop));
    (process, address)
}

/// A connection to an address as `listening` tells it.
pub(crate) async fn connect(address: &str) -> Channel {
    let Some(path) = address.strip_prefix("unix:").map(PathBuf::from) else {
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("it is an address");
        return endpoint.connect().await.expect("it can be called");
    };
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    let endpoint = Endpoint::from_static("http://localhost").max_frame_size(FRAME_BYTES_MAX);
    endpoint.connect_with_connector(connector).await.expect("it can be called")
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let path = PathBuf::from(format!("/proc/{pid}/task"));
    let threads = fs::read_dir(path).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn ticks(pid: u32, from: usize) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let numbers = fields.split_whitespace().skip(from).take(2);
    numbers.filter_map(|field| field.parse::<f64>().ok()).sum()
}

/// Processor time of a process.
pub(crate) fn own_cpu_ms(pid: u32) -> f64 {
    ticks(pid, 11) * 1000.0 / TICKS_PER_SECOND
}

/// Processor time of the children that a process has waited for, and of theirs.
pub(crate) fn children_cpu_ms(pid: u32) -> f64 {
    ticks(pid, 13) * 1000.0 / TICKS_PER_SECOND
}

/// The proportional and the private memory of a process.
pub(crate) fn pss_kib(pid: u32) -> (f64, f64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::NAN)
    };
    (field("Pss:"), field("Private_Clean:") + field("Private_Dirty:"))
}
