//! Faults on purpose, for tests: death at a named point, a system call that fails, and a record
//! of what was changed on the disk, from which a power cut is simulated.
//!
//! Nothing of it is there in a program that is built without the feature `faults`: the functions
//! are empty then.
//!
//! A process reads what it is to suffer from its environment, once:
//! - `JOBWARDEN_FAULT_POINT=NAME` and `JOBWARDEN_FAULT_LATCH=PATH`: SIGKILL at the point of this
//!   name, once for all processes that share the latch, a file that is made then.
//! - `JOBWARDEN_FAULT_CALL=ROLE:N:ERRNO:COUNT` and `JOBWARDEN_FAULT_LATCH=PATH`: in processes of
//!   this role the Nth call that changes the disk or makes a descriptor fails with this error
//!   number, and those after it, until COUNT have failed in all processes that share the latch, a
//!   file that grows by a byte with each.

#[cfg(any(test, feature = "faults"))]
pub use enabled::{Change, fail_calls, record};
#[cfg(any(test, feature = "faults"))]
pub use enabled::{check, note, point, role};

/// What a process is, for faults that only some are to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The service.
    Service,
    /// A launcher.
    Launcher,
    /// A supervisor.
    Supervisor,
}

#[cfg(not(any(test, feature = "faults")))]
mod disabled {
    use super::Role;

    /// Dies here if that was asked for.
    #[inline]
    pub fn point(_name: &'static str) {}

    /// Fails if the next call is to fail.
    #[inline]
    pub fn check() -> std::io::Result<()> {
        Ok(())
    }

    /// Says what this process is from here on.
    #[inline]
    pub fn role(_role: Role) {}
}

#[cfg(not(any(test, feature = "faults")))]
pub use disabled::{check, point, role};

#[cfg(any(test, feature = "faults"))]
mod enabled {
    use std::{
        cell::RefCell,
        fs::{File, OpenOptions},
        io,
        os::unix::fs::MetadataExt as _,
        path::{Path, PathBuf},
        sync::{
            OnceLock,
            atomic::{AtomicU8, AtomicU64, Ordering},
        },
    };

    use super::Role;

    /// A change on the disk. Files are told by their number, since names change.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Change {
        /// A folder was made.
        MadeDir(PathBuf),
        /// A file was made, with a name or without.
        Made(u64, Option<PathBuf>),
        /// A file got another name.
        Linked(u64, PathBuf),
        /// Bytes were written at an offset.
        Wrote(u64, u64, Vec<u8>),
        /// A file got this size.
        Resized(u64, u64),
        /// A name was changed.
        Renamed(PathBuf, PathBuf),
        /// A name was removed, with all below it.
        Removed(PathBuf),
        /// A file was synced.
        Synced(u64),
        /// A folder was synced.
        SyncedDir(PathBuf),
        /// Something was promised to a caller.
        Promised(String),
    }

    /// Calls that are to fail.
    #[derive(Clone, Copy, Debug)]
    struct Plan {
        role: Option<Role>,
        first: u64,
        count: u64,
        errno: i32,
    }

    thread_local! {
        static RECORD: RefCell<Option<Vec<Change>>> = const { RefCell::new(None) };
        static PLAN: RefCell<Option<(Plan, u64)>> = const { RefCell::new(None) };
    }
    static FROM_ENVIRONMENT: OnceLock<Option<Plan>> = OnceLock::new();
    static ROLE: AtomicU8 = AtomicU8::new(0);
    static CALLS: AtomicU64 = AtomicU64::new(0);

    fn number(role: Role) -> u8 {
        match role {
            Role::Service => 1,
            Role::Launcher => 2,
            Role::Supervisor => 3,
        }
    }

    /// Says what this process is from here on; its calls are counted anew.
    pub fn role(role: Role) {
        ROLE.store(number(role), Ordering::Relaxed);
        CALLS.store(0, Ordering::Relaxed);
    }

    /// Dies here if that was asked for.
    pub fn point(name: &'static str) {
        static POINT: OnceLock<Option<(String, PathBuf)>> = OnceLock::new();
        let read = || {
            let point = std::env::var("JOBWARDEN_FAULT_POINT").ok()?;
            Some((point, std::env::var_os("JOBWARDEN_FAULT_LATCH")?.into()))
        };
        let Some((point, latch)) = POINT.get_or_init(read) else { return };
        if point == name && OpenOptions::new().write(true).create_new(true).open(latch).is_ok() {
            // SAFETY: kill(2) takes integers; this process does not outlive it.
            unsafe { nix::libc::kill(nix::libc::getpid(), nix::libc::SIGKILL) };
            loop {
                std::thread::park();
            }
        }
    }

    /// Fails if the next call is to fail.
    pub fn check() -> io::Result<()> {
        let planned = PLAN.with_borrow_mut(|plan| {
            let (plan, calls) = plan.as_mut()?;
            *calls += 1;
            Some(plan.verdict(*calls))
        });
        if let Some(verdict) = planned {
            return verdict;
        }
        let read = || parse(&std::env::var("JOBWARDEN_FAULT_CALL").ok()?);
        let Some(plan) = FROM_ENVIRONMENT.get_or_init(read) else { return Ok(()) };
        if plan.role.is_some_and(|role| number(role) != ROLE.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        if call < plan.first || !is_left(plan.count) {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(plan.errno))
    }

    /// Whether fewer calls than this have failed so far, this one aside.
    fn is_left(count: u64) -> bool {
        let Some(latch) = std::env::var_os("JOBWARDEN_FAULT_LATCH") else { return false };
        let Ok(latch) = OpenOptions::new().append(true).create(true).open(latch) else {
            return false;
        };
        let failed = latch.metadata().map_or(u64::MAX, |metadata| metadata.len());
        failed < count && io::Write::write_all(&mut &latch, b".").is_ok()
    }

    impl Plan {
        fn verdict(&self, call: u64) -> io::Result<()> {
            let is_hit = call >= self.first && call - self.first < self.count;
            if is_hit { Err(io::Error::from_raw_os_error(self.errno)) } else { Ok(()) }
        }
    }

    fn parse(text: &str) -> Option<Plan> {
        let mut parts = text.split(':');
        let role = match parts.next()? {
            "service" => Role::Service,
            "launcher" => Role::Launcher,
            "supervisor" => Role::Supervisor,
            _ => return None,
        };
        let (first, errno) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let count = parts.next()?.parse().ok()?;
        Some(Plan { role: Some(role), first, count, errno })
    }

    /// Lets `count` calls of this thread fail with `errno` while `work` is done, from the `first`
    /// on, counted from 1. Tells how many calls there were as well.
    pub fn fail_calls<T>(first: u64, count: u64, errno: i32, work: impl FnOnce() -> T) -> (T, u64) {
        PLAN.set(Some((Plan { role: None, first, count, errno }, 0)));
        let done = work();
        let calls = PLAN.take().map_or(0, |(_, calls)| calls);
        (done, calls)
    }

    /// Records all that this thread changes on the disk while `work` is done.
    pub fn record<T>(work: impl FnOnce() -> T) -> (T, Vec<Change>) {
        RECORD.set(Some(Vec::new()));
        let done = work();
        (done, RECORD.take().unwrap_or_default())
    }

    /// Notes a change, if changes are recorded.
    pub fn note(change: impl FnOnce() -> Change) {
        RECORD.with_borrow_mut(|record| {
            if let Some(record) = record {
                record.push(change());
            }
        });
    }

    impl Change {
        /// The number of an open file.
        pub fn file(file: &File) -> u64 {
            file.metadata().map_or(0, |metadata| metadata.ino())
        }

        /// A file that has just been made.
        pub fn made(file: &File, path: Option<&Path>) -> Self {
            Self::Made(Self::file(file), path.map(Path::to_owned))
        }
    }
}
