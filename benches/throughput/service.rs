//! The real program on a folder of its own, and what the kernel counts for it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use jobwarden::api::job_service_client::JobServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

const TICKS_PER_SECOND: f64 = 100.0;

/// A running service.
pub(crate) struct Service {
    process: Child,
    channel: Channel,
    folder: TempDir,
}

impl Service {
    /// Starts the program in a new folder below `folder`.
    pub(crate) async fn start(folder: &Path, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(folder).expect("a folder can be made");
        let mut process = Command::new(env!("CARGO_BIN_EXE_jobwarden"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-filter", "error", "--root"])
            .arg(folder.path().join("root"))
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let errors = process.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        let address = address.expect("it tells its address");
        std::thread::spawn(move || lines.for_each(drop));
        let endpoint = Channel::from_shared(format!("http://{address}")).expect("it is an address");
        let channel = endpoint.connect().await.expect("it can be called");
        Self { process, channel, folder }
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

    /// Ends the service; its jobs must have ended.
    pub(crate) async fn stop(mut self) {
        drop(self.channel);
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        tokio::task::yield_now().await;
    }
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

fn own_cpu_ms(pid: u32) -> f64 {
    ticks(pid, 11) * 1000.0 / TICKS_PER_SECOND
}

/// Processor time of the children that a process has waited for, and of theirs.
pub(crate) fn children_cpu_ms(pid: u32) -> f64 {
    ticks(pid, 13) * 1000.0 / TICKS_PER_SECOND
}
