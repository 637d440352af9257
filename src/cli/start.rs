//! Starts a service in the background for a command that finds none.
//!
//! The service outlives the command and the terminal, ends by itself when it has been idle for a
//! while, and writes what it has to say into `service.log` in its task directory. Two commands
//! may do this at once: one service wins, the other ends, and both commands use the winner.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    client::{Client, Credentials, Endpoint},
    config,
};

use super::{
    connect::is_absent,
    credentials::VARIABLES,
    failure::{Failure, TRY_AGAIN, UNAVAILABLE},
    output,
};

/// How long a new service may take until it answers.
const READY_MAX: Duration = Duration::from_secs(10);

/// The pauses between looking whether it does.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(5);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);

/// A service that was started this way ends after being idle for this long, unless the variable
/// says otherwise.
const IDLE_SHUTDOWN: &str = "15m";
const IDLE_SHUTDOWN_VARIABLE: &str = "JOBWARDEN_AUTOSTART_IDLE_SHUTDOWN";

/// A log beyond this size is put aside, over the one that was put aside before.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// How much of the log is shown when the service does not come up.
const LOG_TAIL_BYTES_MAX: u64 = 16 << 10;
const LOG_TAIL_LINES_MAX: usize = 20;

/// Starts a service for the task directory `root` and connects to it.
pub(super) async fn start(
    root: &Path,
    credentials: &Credentials,
    verbose: bool,
) -> Result<Client, Failure> {
    let cannot = |what: &str, path: &Path, error: &io::Error| {
        Failure::new(UNAVAILABLE, format!("cannot {what} {}: {error}", path.display()))
            .hint("name another task directory with --root, or a running service with --endpoint")
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(|error| cannot("create the task directory", root, &error))?;
    let log_path = root.join("service.log");
    let log = open_log(&log_path).map_err(|error| cannot("open", &log_path, &error))?;
    let log_begin = log.metadata().map_or(0, |metadata| metadata.len());
    let program = env::current_exe()
        .map_err(|error| Failure::internal(format!("cannot find this program: {error}")))?;
    let mut service =
        spawn(&program, root, log).map_err(|error| cannot("start", &program, &error))?;
    if verbose {
        output::note(&format!(
            "started a service with process id {}; its log is {}",
            service.id(),
            log_path.display()
        ));
    }
    let failed = |text: String| {
        let mut failure = Failure::new(UNAVAILABLE, text)
            .hint(format!("see {}, or run `jobwarden serve` in a terminal", log_path.display()));
        failure.details = log_tail(&log_path, log_begin);
        failure
    };
    ready(root, credentials, &mut service).await.map_err(failed)
}

/// Connects as soon as somebody answers; or says why that will not happen.
async fn ready(
    root: &Path,
    credentials: &Credentials,
    service: &mut Child,
) -> Result<Client, String> {
    let begin = Instant::now();
    let endpoint = Endpoint::Unix(config::default_socket(root));
    let mut pause = LOOK_PAUSE_MIN;
    loop {
        let error = match Client::connect_with(endpoint.clone(), credentials).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if !is_absent(&error) {
            return Err(format!("{error} although a service was started there"));
        }
        let ended = service.try_wait().ok().flatten();
        if let Some(status) = ended.filter(|status| !is_lost_race(*status)) {
            return Err(format!("the service that was started ended at once ({status})"));
        }
        if begin.elapsed() > READY_MAX {
            let limit = humantime::format_duration(READY_MAX);
            return Err(match ended {
                Some(_) => format!(
                    "another service holds {} and does not answer at its default socket",
                    root.display()
                ),
                None => format!("the service that was started does not answer within {limit}"),
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_PAUSE_MAX);
    }
}

/// Whether the service ended because another one holds the task directory.
fn is_lost_race(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(TRY_AGAIN))
}

fn spawn(program: &Path, root: &Path, log: File) -> io::Result<Child> {
    let mut listen = std::ffi::OsString::from("unix:");
    listen.push(config::default_socket(root));
    let idle_shutdown =
        env::var(IDLE_SHUTDOWN_VARIABLE).unwrap_or_else(|_| IDLE_SHUTDOWN.to_owned());
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--detach")
        .arg("--root")
        .arg(root)
        // A configuration file may name other addresses; this command looks for it here.
        .arg("--listen")
        .arg(listen)
        .arg("--idle-shutdown")
        .arg(idle_shutdown)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // Who we are is none of its business: it serves others after us, for as long as it runs.
    for name in VARIABLES {
        command.env_remove(name);
    }
    if let Some(file) = env::var_os("JOBWARDEN_CONFIG") {
        command.env("JOBWARDEN_CONFIG", std::path::absolute(PathBuf::from(file))?);
    }
    command.spawn()
}

fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    crate::server::open_log(path)
}

/// The last lines that were written to the log after `begin`.
fn log_tail(path: &Path, begin: u64) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut log = File::open(path)?;
        let end = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(begin.max(end.saturating_sub(LOG_TAIL_BYTES_MAX))))?;
        let mut tail = Vec::new();
        log.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().unwrap_or_default();
    let tail = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = tail.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES_MAX);
    lines[from..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_log_is_private_and_put_aside_when_it_is_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.log");
        let log = open_log(&path).unwrap();
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(folder.path().join("service.log.old").exists());
    }

    #[test]
    fn only_the_last_lines_of_this_start_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("service.log");
        let lines = (0..30).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
        fs::write(&path, format!("before\n{lines}")).unwrap();
        let tail = log_tail(&path, 7);
        assert_eq!((tail.len(), tail[0].as_str()), (LOG_TAIL_LINES_MAX, "line 10"));
        assert_eq!(log_tail(&path, 7 + lines.len() as u64), [""; 0]);
        assert_eq!(log_tail(&folder.path().join("missing"), 0), [""; 0]);
    }
}
