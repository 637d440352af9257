//! Starting a program: clean signals, own session, given descriptors, a precise error.
//!
//! The child shares the parent's memory until it has executed the program (`CLONE_VM` and
//! `CLONE_VFORK`, as `posix_spawn` does): no page is copied, and the child reports a failed step
//! by writing it into the parent's memory. Between clone and exec it makes system calls only.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::libc::{self, c_char, c_int, c_void};

use super::{
    confine::{self, Confinement, Limits},
    fs::owned,
    process::{self, PidFd},
};

/// The child's calls need a few hundred bytes; every touched page costs a copy.
const STACK_BYTES: usize = 16 * 1024;

/// How often a program is tried to be started whose process is killed before it runs it.
const TRIES_MAX: u32 = 3;

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// Paths to try, in order, as execvp(3) does.
    pub candidates: &'a [CString],
    /// The arguments, the name of the program first.
    pub argv: &'a [CString],
    /// `KEY=VALUE` pairs: all of the environment.
    pub environment: &'a [CString],
    /// Where to run.
    pub working_dir: &'a CString,
    /// Becomes descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Becomes descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Becomes descriptor 2.
    pub stderr: BorrowedFd<'a>,
    /// The soft limit of open files; `None` leaves what this process has.
    pub open_files: Option<u64>,
    /// What it gives up before it runs.
    pub confinement: &'a Confinement<'a>,
    /// `cgroup.procs` of the group to run in.
    pub cgroup_procs: Option<BorrowedFd<'a>>,
    /// Who is told by the new process itself, last thing before the program.
    pub announce: Option<&'a dyn Announce>,
}

/// A process as it knows itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Itself {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// What a new process tells of itself. Called between clone and exec, in memory that is still the
/// parent's: system calls only, no allocation. It goes on if the parent is killed meanwhile.
pub trait Announce: std::fmt::Debug {
    /// It is about to execute the program. An error number keeps it from doing so.
    fn starting(&self, itself: Itself) -> Result<(), i32>;
    /// The program could not be executed for this reason.
    fn exec_failed(&self, errno: i32);
}

/// A program that has been started.
#[derive(Debug)]
pub struct Child {
    /// Its process id; it is not reaped, so the number stays its own.
    pub pid: i32,
    /// When it started, in clock ticks since boot; zero if it was not to announce itself.
    pub start_ticks: u64,
    /// A handle to it.
    pub handle: PidFd,
}

/// A step between fork and exec that failed.
#[derive(Debug)]
pub struct SpawnError {
    /// The step: `fork`, `session`, `cgroup`, `descriptors`, `setgroups`, `setgid`, `setuid`,
    /// `working_dir`, `no_new_privs`, `state` or `exec`.
    pub stage: &'static str,
    /// Why.
    pub source: io::Error,
}

/// The step that tells that it failed by itself.
const EXEC: &str = "exec";

/// All that the child needs, laid out before it exists: it must not allocate.
struct Plan<'a> {
    candidates: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    working_dir: *const c_char,
    descriptors: [c_int; 3],
    cgroup_procs: c_int,
    open_files: Option<libc::rlimit>,
    announce: Option<&'a dyn Announce>,
    itself: Itself,
    limits: Limits,
    confinement: &'a Confinement<'a>,
    failure: Option<(&'static str, c_int)>,
}

/// Starts a program and returns once it is executing.
pub fn spawn(program: &Program<'_>) -> Result<Child, SpawnError> {
    for _ in 1..TRIES_MAX {
        match try_spawn(program) {
            Err(error) if error.source.kind() == io::ErrorKind::Interrupted => {}
            tried => return tried,
        }
    }
    try_spawn(program)
}

fn try_spawn(program: &Program<'_>) -> Result<Child, SpawnError> {
    let fork_error = |source| SpawnError { stage: "fork", source };
    let mut plan = Plan {
        candidates: program.candidates.iter().map(|path| path.as_ptr()).collect(),
        argv: pointers(program.argv),
        environment: pointers(program.environment),
        working_dir: program.working_dir.as_ptr(),
        descriptors: [program.stdin, program.stdout, program.stderr].map(|fd| fd.as_raw_fd()),
        cgroup_procs: program.cgroup_procs.map_or(-1, |fd| fd.as_raw_fd()),
        open_files: program.open_files.and_then(open_files_limit),
        announce: program.announce,
        itself: Itself::default(),
        limits: program.confinement.limits(),
        confinement: program.confinement,
        failure: None,
    };
    let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack grows downwards from its end, which is aligned to 16 bytes, and outlives
    // the call: with CLONE_VFORK the parent sleeps until the child has executed or exited. `plan`
    // and all it points to outlive the call for the same reason. The child's function makes
    // system calls only. With CLONE_PIDFD the fifth argument receives the descriptor.
    let pid = unsafe {
        libc::clone(
            in_child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw mut plan).cast(),
            &raw mut pidfd,
        )
    };
    if pid < 0 {
        return Err(fork_error(io::Error::last_os_error()));
    }
    if program.confinement.user.is_some() {
        // The memory was shared with a process that changed its user, which may have let others
        // look into it.
        process::forbid_dumps();
    }
    let handle = PidFd::from_fd(owned(pidfd).map_err(fork_error)?);
    match plan.failure {
        None if program.announce.is_some() && plan.itself == Itself::default() => {
            // Somebody killed it before it ran anything.
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            Err(fork_error(io::ErrorKind::Interrupted.into()))
        }
        None => Ok(Child { pid, start_ticks: plan.itself.start_ticks, handle }),
        Some((stage, errno)) => {
            // It has exited already, or is about to: this cannot wait long.
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            Err(SpawnError { stage, source: io::Error::from_raw_os_error(errno) })
        }
    }
}

fn open_files_limit(soft: u64) -> Option<libc::rlimit> {
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok()?;
    Some(libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

extern "C" fn in_child(plan: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes a pointer to its plan and sleeps until this function has returned
    // or the program runs, so nobody else uses it.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    // SAFETY: only async-signal-safe system calls on pointers that `spawn` keeps alive.
    let (stage, errno) = unsafe { become_program(plan) };
    plan.failure = Some((stage, errno));
    if let (EXEC, Some(announce)) = (stage, plan.announce) {
        announce.exec_failed(errno);
    }
    // The parent reads the failure; the code itself means nothing.
    127
}

/// Runs the steps in order; returns the first that failed.
unsafe fn become_program(plan: &mut Plan<'_>) -> (&'static str, c_int) {
    // SAFETY: see `in_child`; errno is the child's own thread-local only after CLONE_SETTLS, but
    // the parent sleeps, so nobody else writes it meanwhile.
    unsafe {
        if libc::setsid() < 0 {
            return ("session", *libc::__errno_location());
        }
        if plan.cgroup_procs >= 0 && libc::write(plan.cgroup_procs, c"0".as_ptr().cast(), 1) < 0 {
            return ("cgroup", *libc::__errno_location());
        }
        if let Err(errno) = place_descriptors(plan.descriptors) {
            return ("descriptors", errno);
        }
        if let Some(user) = &plan.confinement.user
            && let Err(failure) = confine::become_user(user)
        {
            return failure;
        }
        // As that user: a directory that it may not enter is refused.
        if libc::chdir(plan.working_dir) < 0 {
            return ("working_dir", *libc::__errno_location());
        }
        libc::umask(plan.confinement.umask);
        if plan.confinement.no_new_privs
            && let Err(failure) = confine::give_up_new_rights()
        {
            return failure;
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        if let Some(announce) = plan.announce {
            let start_ticks = match own_start_ticks() {
                Ok(ticks) => ticks,
                Err(errno) => return ("state", errno),
            };
            let itself = Itself { pid: libc::getpid(), start_ticks };
            if let Err(errno) = announce.starting(itself) {
                return ("state", errno);
            }
            plan.itself = itself;
        }
        if let Some(limit) = &plan.open_files {
            // Lowering the soft limit is always allowed.
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        // After the last write of ours, which a limit on files could forbid.
        confine::limit(&plan.limits);
        // Last: until here no signal interrupts what is told.
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        (EXEC, execute(plan))
    }
}

/// When this process started: field 22 of its `/proc/self/stat`, read without allocating.
unsafe fn own_start_ticks() -> Result<u64, c_int> {
    let mut text = [0_u8; 1024];
    // SAFETY: the path ends with NUL, the buffer is as long as is said.
    let length = unsafe {
        let file = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(*libc::__errno_location());
        }
        let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
        libc::close(file);
        length
    };
    let text = &text[..usize::try_from(length).unwrap_or(0)];
    // The name may hold anything, blanks and parentheses too; what follows holds neither.
    let fields = text.rsplit(|byte| *byte == b')').next().unwrap_or_default();
    // The text begins with the blank before field 3.
    let field = fields.split(|byte| *byte == b' ').nth(20).unwrap_or_default();
    str::from_utf8(field).ok().and_then(|digits| digits.parse().ok()).ok_or(libc::EIO)
}

unsafe fn place_descriptors(descriptors: [c_int; 3]) -> Result<(), c_int> {
    // SAFETY: integers only.
    unsafe {
        let mut moved = [0; 3];
        // First out of the way of 0 to 2, so that no placing overwrites one still needed.
        for (to, from) in moved.iter_mut().zip(descriptors) {
            *to = libc::fcntl(from, libc::F_DUPFD_CLOEXEC, 3);
            if *to < 0 {
                return Err(*libc::__errno_location());
            }
        }
        for (target, from) in (0..).zip(moved) {
            if libc::dup2(from, target) < 0 {
                return Err(*libc::__errno_location());
            }
        }
        // All of ours are closed on exec anyhow; this is for any that a library opened.
        libc::syscall(libc::SYS_close_range, 3, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
        Ok(())
    }
}

/// Tries each candidate as execvp(3) does; returns the error that tells most.
unsafe fn execute(plan: &Plan<'_>) -> c_int {
    let mut seen = libc::ENOENT;
    for candidate in &plan.candidates {
        // SAFETY: all three are NULL-terminated arrays or strings that `spawn` keeps alive.
        let errno = unsafe {
            libc::execve(*candidate, plan.argv.as_ptr(), plan.environment.as_ptr());
            *libc::__errno_location()
        };
        match errno {
            libc::ENOENT | libc::ENOTDIR => {}
            // One that exists but may not be run says more than one that is missing.
            libc::EACCES => seen = libc::EACCES,
            other => return other,
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::sys::process::{Ended, peek_end, reap};

    fn run(program: &str, working_dir: &str) -> Result<Ended, SpawnError> {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let path = CString::new(program).unwrap();
        let argv = [path.clone(), c"-c".to_owned(), c"exit 7".to_owned()];
        let child = spawn(&Program {
            candidates: &[c"/nonexistent/sh".to_owned(), path],
            argv: &argv,
            environment: &[],
            working_dir: &CString::new(working_dir).unwrap(),
            stdin: null.as_fd(),
            stdout: null.as_fd(),
            stderr: null.as_fd(),
            open_files: None,
            confinement: &Confinement { umask: 0o022, ..Confinement::default() },
            cgroup_procs: None,
            announce: None,
        })?;
        crate::sys::poll::readable([Some(child.handle.as_fd())], None).unwrap();
        let (ended, _) = peek_end(child.pid).unwrap().unwrap();
        assert_eq!(reap(child.pid).unwrap(), Some(ended));
        Ok(ended)
    }

    #[test]
    fn a_started_program_reports_its_exit_code() {
        assert_eq!(run("/bin/sh", "/").unwrap(), Ended::Exited(7));
    }

    #[test]
    fn a_missing_program_is_an_error_of_the_step_exec() {
        let error = run("/nonexistent/program", "/").unwrap_err();
        assert_eq!((error.stage, error.source.raw_os_error()), ("exec", Some(libc::ENOENT)));
    }

    #[test]
    fn a_file_that_may_not_be_run_is_told_from_a_missing_one() {
        let error = run("/etc/passwd", "/").unwrap_err();
        assert_eq!((error.stage, error.source.raw_os_error()), ("exec", Some(libc::EACCES)));
    }

    #[test]
    fn a_missing_directory_is_an_error_of_its_step() {
        let error = run("/bin/sh", "/nonexistent").unwrap_err();
        assert_eq!((error.stage, error.source.raw_os_error()), ("working_dir", Some(libc::ENOENT)));
    }
}
