//! What a new process gives up before it executes its program: its user, rights that programs
//! bring, resources.
//!
//! Everything is laid out before the process exists, since what runs in it must not allocate.
//! The calls go to the kernel directly: those of the C library change all threads of a process,
//! which would reach into the parent whose memory is shared.

use nix::{
    libc::{self, c_int, c_long},
    sys::resource::{Resource, getrlimit},
};

use super::account::Credentials;

/// What to give up.
#[derive(Clone, Debug, Default)]
pub struct Confinement<'a> {
    /// Whom to become.
    pub user: Option<Credentials<'a>>,
    /// Whether to gain no rights by executing programs, ever.
    pub no_new_privs: bool,
    /// The permissions that files which it makes do not get.
    pub umask: u32,
    /// Limits by the names of getrlimit(2), in lower case without their prefix.
    pub limits: Vec<(&'static str, u64)>,
}

/// Limits in the form of the kernel.
pub(super) type Limits = Vec<(c_int, libc::rlimit)>;

impl Confinement<'_> {
    /// The limits for the kernel: soft and hard, but never beyond the hard ones that hold already,
    /// so that setting them needs no rights. A name that is not known limits nothing.
    pub(super) fn limits(&self) -> Limits {
        let known = self.limits.iter().filter_map(|(name, value)| {
            let resource = resource(name)?;
            let (_, hard) = getrlimit(resource).ok()?;
            let value = (*value).min(hard);
            let number = c_int::try_from(resource as u32).ok()?;
            Some((number, libc::rlimit { rlim_cur: value, rlim_max: value }))
        });
        known.collect()
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// Becomes another user for good; names the step that failed and why.
///
/// # Safety
/// Between clone and exec only: system calls, no allocation.
pub(super) unsafe fn become_user(user: &Credentials<'_>) -> Result<(), (&'static str, c_int)> {
    let (uid, gid) = (c_long::from(user.uid), c_long::from(user.gid));
    // SAFETY: the pointer is to as many numbers as is said; the rest are integers. Groups first:
    // who is root no more may not change them.
    unsafe {
        let groups = user.groups;
        check("setgroups", libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check("setgid", libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check("setuid", libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
        // The memory is the parent's, into which other processes of that user must not look,
        // whatever the host allows by default after such a change (`fs.suid_dumpable`).
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    Ok(())
}

/// Gains no rights by executing programs from here on.
///
/// # Safety
/// Between clone and exec only.
pub(super) unsafe fn give_up_new_rights() -> Result<(), (&'static str, c_int)> {
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check("no_new_privs", c_long::from(result))
}

/// Sets limits, none of which is raised.
///
/// # Safety
/// Between clone and exec only.
pub(super) unsafe fn limit(limits: &Limits) {
    for (resource, limit) in limits {
        // SAFETY: the pointer is to a limit that outlives the call. Lowering is always allowed.
        unsafe { libc::syscall(libc::SYS_setrlimit, *resource, std::ptr::from_ref(limit)) };
    }
}

fn check(step: &'static str, result: c_long) -> Result<(), (&'static str, c_int)> {
    // SAFETY: the address is that of this thread's own number.
    if result < 0 { Err((step, unsafe { *libc::__errno_location() })) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_never_above_those_that_hold_already() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limits = vec![("nofile", u64::MAX), ("core", 0), ("no such limit", 1)];
        let confinement = Confinement { limits, ..Confinement::default() };
        let set: Vec<_> = confinement.limits().into_iter().map(|(_, one)| one.rlim_max).collect();
        assert_eq!(set, [hard, 0]);
    }
}
