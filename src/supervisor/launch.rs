//! From a claimed job to a running process, or to the step that failed.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use crate::{
    job::{Accepted, Command, End, Event, LaunchError, ProcessIdentity, Started, Time},
    store::{Announcement, JobRecord},
    sys::{
        self,
        cgroup::Group,
        clock, faults, fs, ownership, pipe,
        spawn::{Child, Program, SpawnError, spawn},
    },
};

use super::{
    Fifos, Host, SupervisorError, capture::Capture, confine, environment, environment::Environment,
    family::Family, main_process::MainProcess, system, tell,
};

/// What came of a launch.
pub(super) enum Launched {
    /// The process runs.
    Running(Box<Live>),
    /// A step failed; the job ends so.
    Failed(Box<End>),
}

/// A process that runs, and where its output comes from.
pub(super) struct Live {
    pub(super) main: MainProcess,
    pub(super) family: Family,
    pub(super) capture: Capture,
    pub(super) group: Option<Group>,
}

/// A step that failed, in the words of the proto.
struct Failure {
    stage: &'static str,
    what: String,
    source: io::Error,
}

/// Starts the process of a claimed job.
pub(super) fn launch(
    record: &mut JobRecord,
    fifos: Fifos,
    host: &Host,
) -> Result<Launched, SupervisorError> {
    // Without one the tree is found by walking it: a host may refuse at any time.
    let groups = host.groups.as_ref();
    let group = groups.and_then(|groups| groups.group(&record.accepted().id.to_string()).ok());
    let boot_id = clock::boot_id().map_err(system("read the boot id"))?.to_owned();
    let mut started = Started {
        process: ProcessIdentity { pid: 0, start_ticks: 0, boot_id },
        time: Time::from(clock::now()),
        cgroup: group.as_ref().map(|group| group.path().to_string_lossy().into_owned()),
    };
    let announcement = record.announcement(&started)?;
    let child = start(record, group.as_ref(), host.open_files, &announcement);
    let child = match child {
        Ok(child) => child,
        Err(Failure { stage, what, source }) => {
            faults::point("supervisor.not_spawned");
            record.announced(announcement, None)?;
            let _ = group.map(|group| group.remove());
            return Ok(Launched::Failed(Box::new(failed(stage, &what, &source))));
        }
    };
    faults::point("supervisor.spawned");
    started.process.pid = child.pid;
    started.process.start_ticks = child.start_ticks;
    record.announced(announcement, Some(started.clone()))?;
    if !record.accepted().spec.secret_keys.is_empty() {
        // It runs: no later step needs the values. Once the start is told, no file has them.
        let _ = record.dir().remove_secrets();
    }
    record.append(&Event::Started(started))?;
    faults::point("supervisor.started");
    let capture = Capture::new(record.dir(), fifos, &record.accepted().spec);
    let (main, family) = (MainProcess::Own(child), Family::Own);
    Ok(Launched::Running(Box::new(Live { main, family, capture, group })))
}

/// The end of a job of which a step of the start failed.
fn failed(stage: &str, what: &str, source: &io::Error) -> End {
    let errno = sys::errno(source);
    let errno_name = sys::errno_name(errno);
    let message = format!("could not be started: {what}: {source}");
    let error = LaunchError { stage: stage.to_owned(), errno, errno_name };
    tell::not_launched(error, &message, Time::from(clock::now()))
}

/// The end of a job whose program could not be executed, as its process wrote before its
/// supervisor died.
pub(super) fn exec_failed(record: &JobRecord, errno: i32) -> End {
    let what = what_failed("exec", record.accepted());
    failed("exec", &what, &io::Error::from_raw_os_error(errno))
}

fn start(
    record: &JobRecord,
    group: Option<&Group>,
    open_files: Option<u64>,
    announcement: &Announcement,
) -> Result<Child, Failure> {
    let accepted = record.accepted();
    let dir = record.dir();
    let attempt = record.state().attempt();
    let environment = dir
        .secrets()
        .map_err(|error| io::Error::other(error.to_string()))
        .map_err(|source| Failure { stage: "env_file", what: "the secrets".to_owned(), source })
        .and_then(|secrets| {
            environment::environment(accepted, attempt, &secrets).map_err(env_file_failure)
        })?;
    let stdin = stdin(record).map_err(|source| Failure {
        stage: "stdin",
        what: "standard input".to_owned(),
        source,
    })?;
    let [out_path, err_path] = dir.fifo_paths();
    let stdout = output(accepted, &out_path)?;
    let stderr = if accepted.spec.merge_output { None } else { Some(output(accepted, &err_path)?) };
    let group_processes = group.and_then(|group| group.processes().ok());
    let (candidates, argv) = command(&accepted.spec.command, &environment)?;
    let pairs = environment
        .into_iter()
        .map(|(name, value)| c_string("env", [name, value].join(&b'=')))
        .collect::<Result<Vec<_>, _>>()?;
    let working_dir = c_string("working_dir", accepted.working_dir.clone().into_bytes())?;
    let program = Program {
        candidates: &candidates,
        argv: &argv,
        environment: &pairs,
        working_dir: &working_dir,
        stdin: stdin.as_fd(),
        stdout: stdout.as_fd(),
        stderr: stderr.as_ref().unwrap_or(&stdout).as_fd(),
        open_files,
        confinement: &confine::confinement(&accepted.confinement),
        cgroup_procs: group_processes.as_ref().map(|file| file.as_fd()),
        announce: Some(announcement),
    };
    spawn(&program).map_err(|SpawnError { stage, source }| Failure {
        stage,
        what: what_failed(stage, accepted),
        source,
    })
}

/// The end of a FIFO that the job writes into; it belongs to whom the job runs as, so that the
/// job can open it again under its other names, such as `/dev/stdout`.
fn output(accepted: &Accepted, path: &Path) -> Result<OwnedFd, Failure> {
    let opened = pipe::open_both(path).and_then(|fifo| {
        if let Some(account) = &accepted.confinement.run_as {
            ownership::give(&fifo, account.uid, account.gid)?;
        }
        Ok(fifo)
    });
    let what = || format!("cannot open {}", path.display());
    opened.map_err(|source| Failure { stage: "output", what: what(), source })
}

fn what_failed(stage: &str, accepted: &Accepted) -> String {
    match (stage, &accepted.spec.command) {
        ("working_dir", _) => {
            format!("cannot change to the directory {:?}", accepted.working_dir)
        }
        ("setgroups" | "setgid" | "setuid", _) => {
            let account = accepted.confinement.run_as.as_ref();
            let name = account.map_or("", |account| account.name.as_str());
            format!("the service may not run jobs as the user {name:?}")
        }
        ("exec", Command::Argv(argv)) => {
            format!("cannot execute {:?}", argv.first().map_or("", String::as_str))
        }
        ("exec", Command::Shell(_)) => "cannot execute /bin/sh".to_owned(),
        (stage, _) => format!("the step {stage} failed"),
    }
}

fn env_file_failure(error: environment::EnvFileError) -> Failure {
    let environment::EnvFileError { path, line, source } = error;
    let what = match line {
        Some(line) => format!("line {line} of {path:?} is not KEY=VALUE"),
        None => format!("cannot read {path:?}"),
    };
    Failure { stage: "env_file", what, source }
}

fn stdin(record: &JobRecord) -> io::Result<File> {
    if record.accepted().spec.stdin_bytes == 0 {
        return File::open("/dev/null");
    }
    let file = fs::open_regular(&record.dir().stdin_path())?;
    if let Some(account) = &record.accepted().confinement.run_as {
        // So that the job can open it again as `/dev/stdin`. Only who has the descriptor comes to
        // it: the folders around it are the service's.
        ownership::let_group_read(&file, account.gid)?;
    }
    Ok(file)
}

/// The paths to try and the arguments.
fn command(
    command: &Command,
    environment: &Environment,
) -> Result<(Vec<CString>, Vec<CString>), Failure> {
    let (program, argv) = match command {
        Command::Argv(argv) => (argv.first().cloned().unwrap_or_default(), argv.clone()),
        Command::Shell(script) => {
            let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
            ("/bin/sh".to_owned(), argv)
        }
    };
    let argv = argv
        .into_iter()
        .map(|argument| c_string("exec", argument.into_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    if program.contains('/') {
        return Ok((vec![c_string("exec", program.into_bytes())?], argv));
    }
    let path = environment.get(&b"PATH"[..]).cloned().unwrap_or_default();
    let candidates = path
        .split(|byte| *byte == b':')
        // As execvp(3) has it, an empty entry is the working directory.
        .map(|folder| if folder.is_empty() { &b"."[..] } else { folder })
        .map(|folder| c_string("exec", [folder, program.as_bytes()].join(&b'/')))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((candidates, argv))
}

fn c_string(stage: &'static str, bytes: Vec<u8>) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| Failure {
        stage,
        what: "a text holds NUL".to_owned(),
        source: io::Error::from_raw_os_error(sys::EINVAL),
    })
}
