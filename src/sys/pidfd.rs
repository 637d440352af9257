//! A handle to a process: signals that cannot hit a stranger, and how it ended.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::libc;

use super::process::{Ended, ended, start_ticks_of};

/// A handle to one process that stays with it whatever becomes of its number: `pidfd_open(2)`.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A handle to the process that has this number now; `None` if there is none.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        // SAFETY: the call takes two integers; a result of zero or more is a descriptor of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match super::fs::owned(i32::try_from(fd).unwrap_or(-1)) {
            Ok(fd) => Ok(Some(Self(fd))),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A handle to the process with this number and start time; `None` if it is gone.
    pub fn open_exactly(pid: i32, start_ticks: u64) -> io::Result<Option<Self>> {
        let Some(handle) = Self::open(pid)? else { return Ok(None) };
        // The handle is held by now, so a later owner of the number cannot be taken for it.
        let found = start_ticks_of(pid)?;
        Ok((found == Some(start_ticks)).then_some(handle))
    }

    /// Sends a signal; false if the process is gone.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        // SAFETY: the descriptor is open, null is allowed for the signal's details.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        }
    }

    /// A second handle to the same process.
    pub fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Whether the process has ended, reaped or not.
    pub fn has_ended(&self) -> bool {
        let ready = super::poll::readable([Some(self.0.as_fd())], Some(Duration::ZERO));
        ready.is_ok_and(|[has_ended]| has_ended)
    }

    /// How the process ended, whoever's child it was; `None` while it runs or is a zombie, and
    /// where the kernel does not say (before 6.15).
    ///
    /// The kernel keeps this for handles that were opened before the process was reaped
    /// (`PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, linux/pidfd.h).
    pub fn exit_status(&self) -> Option<Ended> {
        const INFO_EXIT: u64 = 1 << 3;
        // _IOWR(0xff, 11, struct pidfd_info), in its first form of 64 bytes.
        const GET_INFO: libc::c_ulong = 0xc040_ff0b;
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            mask: u64,
            cgroup: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // SAFETY: the descriptor is open and the structure has the size that the number says.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO as _, &raw mut info) };
        if result != 0 || info.mask & INFO_EXIT == 0 {
            return None;
        }
        Some(ended(info.exit_code))
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_tells_how_a_process_ended_that_another_reaped() {
        for (script, expected) in
            [("exit 7", Ended::Exited(7)), ("kill -9 $$", Ended::Signaled(9, false))]
        {
            let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
            let handle = PidFd::open(child.id().cast_signed()).unwrap().unwrap();
            child.wait().unwrap();
            match handle.exit_status() {
                Some(ended) => assert_eq!(ended, expected),
                None => eprintln!("skipped: this kernel does not tell (before 6.15)"),
            }
        }
    }
}
