//! Processes: who they are, how they ended, and signals that cannot hit a stranger.

use std::{io, time::Duration};

use nix::{
    libc,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork, setsid},
};

use super::io_error;
pub use super::pidfd::PidFd;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// It died of this signal, with or without a core dump.
    Signaled(i32, bool),
}

/// What a process and the children it waited for have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// Processor time in user mode.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// The largest resident set of any one process, in bytes.
    pub max_rss_bytes: u64,
}

/// How a process ended, told by whoever reaped it.
#[derive(Clone, Copy, Debug)]
pub struct ExitReport {
    /// How.
    pub ended: Ended,
    /// What it used.
    pub resources: Resources,
    /// Bytes that it read from and wrote to storage.
    pub storage_bytes: (u64, u64),
}

/// How the child ended and what it used; `None` while it runs.
///
/// The zombie stays: until `reap` its number is not given to another process, and its status is
/// not lost if the caller dies.
pub fn peek_end(pid: i32) -> io::Result<Option<(Ended, Resources)>> {
    let peeked = peek(libc::P_PID, pid)?;
    Ok(peeked.map(|(_, ended, resources)| (ended, resources)))
}

/// The number of any one child that has ended, how it did and what it used. The zombie stays.
pub fn peek_any() -> io::Result<Option<(i32, Ended, Resources)>> {
    match peek(libc::P_ALL, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        peeked => peeked,
    }
}

fn peek(kind: libc::idtype_t, pid: i32) -> io::Result<Option<(i32, Ended, Resources)>> {
    // SAFETY: all-zero bytes are a valid siginfo_t and a valid rusage.
    let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel's waitid, unlike the C library's, has a fifth argument for the usage
    // (waitid(2), "C library/kernel differences"); both pointers are valid for the call.
    let result = unsafe {
        libc::syscall(libc::SYS_waitid, kind, pid, &raw mut info, options, &raw mut usage)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after a successful waitid these fields are set, or zero if nobody has ended.
    let (found, status) = unsafe { (info.si_pid(), info.si_status()) };
    if found == 0 {
        return Ok(None);
    }
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Exited(status),
        libc::CLD_DUMPED => Ended::Signaled(status, true),
        _ => Ended::Signaled(status, false),
    };
    Ok(Some((found, ended, resources(&usage))))
}

/// Takes the status of a child that has ended; `None` while it runs.
pub fn reap(pid: i32) -> io::Result<Option<Ended>> {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).map_err(io_error)? {
        WaitStatus::Exited(_, code) => Ok(Some(Ended::Exited(code))),
        WaitStatus::Signaled(_, signal, core) => Ok(Some(Ended::Signaled(signal as i32, core))),
        _ => Ok(None),
    }
}

/// Takes the status of every child that has ended but for `kept`; tells how many.
pub fn reap_others(kept: i32) -> io::Result<usize> {
    let mut reaped = 0;
    for pid in super::tree::own_children()? {
        if pid != kept && reap(pid)?.is_some() {
            reaped += 1;
        }
    }
    Ok(reaped)
}

/// How long a process has run, if it still is the one that started then.
pub fn age(start_ticks: u64) -> Duration {
    // SAFETY: sysconf(3) takes one integer.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_second = u64::try_from(per_second).unwrap_or(100).max(1);
    let started = Duration::from_millis(start_ticks.saturating_mul(1000) / per_second);
    super::clock::since_boot().saturating_sub(started)
}

/// What all children that were waited for have used.
pub fn resources_of_children() -> Resources {
    // SAFETY: all-zero bytes are a valid rusage, and the pointer is valid for the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    resources(&usage)
}

fn resources(usage: &libc::rusage) -> Resources {
    let span = |time: libc::timeval| {
        let micros = u64::try_from(time.tv_usec).unwrap_or(0);
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(micros)
    };
    Resources {
        user_time: span(usage.ru_utime),
        system_time: span(usage.ru_stime),
        max_rss_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }
}

/// Bytes that a process and the children it waited for read from and wrote to storage.
///
/// Works for a zombie too. Zeroes where the kernel does not count them.
pub fn storage_bytes(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    (field("read_bytes:"), field("write_bytes:"))
}

/// When a process started, in clock ticks since boot; `None` if it is gone.
pub fn start_ticks_of(pid: i32) -> io::Result<Option<u64>> {
    let Some(text) = stat_of(pid)? else { return Ok(None) };
    // Field 22; the text begins at field 3.
    let ticks = text.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    ticks.map(Some).ok_or_else(|| io::Error::other("/proc/PID/stat has no start time"))
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything; `None` if it is gone.
pub(super) fn stat_of(pid: i32) -> io::Result<Option<String>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => Ok(text.rsplit_once(") ").map(|(_, fields)| fields.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process is a fork of another that has not executed anything since. One that is
/// gone is not.
pub fn is_copy_of(pid: i32, original: i32) -> bool {
    let same = |name: &str, read: fn(String) -> io::Result<Vec<u8>>| {
        let read = |pid: i32| read(format!("/proc/{pid}/{name}")).ok();
        read(pid).is_some_and(|found| Some(found) == read(original))
    };
    let link =
        |path| std::fs::read_link(path).map(|path| path.into_os_string().into_encoded_bytes());
    same("exe", link) && same("cmdline", std::fs::read)
}

/// The number of this process.
pub fn own_pid() -> i32 {
    Pid::this().as_raw()
}

/// The number of the parent.
pub fn parent_pid() -> i32 {
    Pid::parent().as_raw()
}

/// The user this process acts as.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The home directory and name that the account database gives this user.
///
/// Asked once: the answer may come over a socket, and a fork has what its parent learnt.
pub fn own_account() -> Option<&'static (String, std::path::PathBuf)> {
    static ACCOUNT: std::sync::OnceLock<Option<(String, std::path::PathBuf)>> =
        std::sync::OnceLock::new();
    let find = || {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok()??;
        Some((user.name, user.dir))
    };
    ACCOUNT.get_or_init(find).as_ref()
}

/// Makes this process the leader of a new session, so that a terminal's signals miss it.
pub fn leave_session() -> io::Result<()> {
    setsid().map(drop).map_err(io_error)
}

/// Makes this process the parent of all its descendants whose parents die.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes one integer and changes no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether `/proc` is mounted so that it hides what it knows of processes from who may not trace
/// them (proc(5), `hidepid`).
pub fn are_hidden() -> bool {
    are_hidden_by(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn are_hidden_by(mounts: &str) -> bool {
    // The last one is on top. The options of the file system are the last field.
    let is_proc = |line: &&str| line.split(' ').nth(4) == Some("/proc");
    let options = mounts.lines().rfind(is_proc).and_then(|line| line.rsplit(' ').next());
    let mut hidepid =
        options.unwrap_or_default().split(',').filter_map(|it| it.strip_prefix("hidepid="));
    hidepid.any(|mode| mode != "0" && mode != "off")
}

/// Names this process in `ps` and `/proc/PID/comm`, at most 15 bytes.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the pointer is to a string that ends with NUL; the kernel copies it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Lets nobody look into this process who is not root: no core dump, no debugger, and none of
/// what `/proc` tells of it beyond its numbers, until it executes another program. What its
/// memory and its environment hold may be secret. Forks have the same.
pub fn forbid_dumps() {
    // SAFETY: PR_SET_DUMPABLE takes one integer and changes no memory.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Private files and folders from here on, whatever umask the parent had.
pub fn set_private_umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
}

/// Raises the soft limit of open files to the hard one; tells what it was.
pub fn raise_open_files_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(io_error)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(io_error)?;
    }
    Ok(soft)
}

/// The soft limit of open files.
pub fn open_files_max() -> i32 {
    use nix::sys::resource::{Resource, getrlimit};
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// How a zombie ended, whoever's child it is; `None` if it is none: fields 3 and 52 of
/// `/proc/PID/stat`, which its own user may read (proc(5)).
pub fn zombie_status(pid: i32, start_ticks: u64) -> Option<Ended> {
    let fields = stat_of(pid).ok()??;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let is_it = *fields.first()? == "Z" && fields.get(19)?.parse() == Ok(start_ticks);
    let status: i32 = fields.get(49)?.parse().ok()?;
    is_it.then(|| ended(status))
}

/// Reads a status as wait(2) gives it.
pub(super) fn ended(status: i32) -> Ended {
    if libc::WIFEXITED(status) {
        Ended::Exited(libc::WEXITSTATUS(status))
    } else {
        Ended::Signaled(libc::WTERMSIG(status), libc::WCOREDUMP(status))
    }
}

/// Forks a copy of this process that runs `child` and exits with its result.
///
/// Only for a process with a single thread: a copy of one with several could find locks held by
/// threads that it does not have.
pub fn fork_and_run(child: impl FnOnce() -> i32) -> io::Result<i32> {
    // SAFETY: this process has a single thread, as the caller promises, so that the copy is
    // whole and may do anything.
    match unsafe { fork() }.map_err(io_error)? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            // A panic must not unwind into the parent's frames, of which this is a copy.
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(70);
            // SAFETY: _exit has no conditions; it skips the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Gives memory that the allocator holds free back to the kernel.
pub fn trim_memory() {
    // SAFETY: malloc_trim(3) takes one integer and only returns pages that nothing uses.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proc_that_hides_processes_is_known_by_its_options() {
        let line = |options: &str| {
            format!("22 27 0:21 / /proc rw,relatime shared:5 - proc proc {options}\n")
        };
        let other = "23 27 0:22 / /sys rw - sysfs sysfs rw,hidepid=2\n";
        for (options, expected) in [
            ("rw", false),
            ("rw,hidepid=off", false),
            ("rw,hidepid=0", false),
            ("rw,gid=7,hidepid=invisible", true),
            ("rw,hidepid=ptraceable", true),
            ("rw,hidepid=1", true),
        ] {
            assert_eq!(are_hidden_by(&(line(options) + other)), expected, "{options}");
        }
        assert!(are_hidden_by(&(line("rw") + &line("rw,hidepid=2"))));
        assert!(!are_hidden_by(&(line("rw,hidepid=2") + &line("rw"))));
        assert!(!are_hidden_by(""));
    }
}
