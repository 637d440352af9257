//! Signals: received through a descriptor, or set back to how programs expect them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    libc,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::io_error;

/// What a supervisor and a launcher are told by signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A child ended (SIGCHLD).
    Child,
    /// Look at the folder again (SIGUSR1).
    Look,
}

/// Signals as a descriptor to poll.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals and takes those of `Notice`.
    ///
    /// With all blocked, nothing but SIGKILL ends a process that has jobs to look after.
    pub fn take() -> io::Result<Self> {
        SigSet::all().thread_set_mask().map_err(io_error)?;
        let mut taken = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGUSR1] {
            taken.add(signal);
        }
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&taken, flags).map(Self).map_err(io_error)
    }

    /// The next signal that has arrived, if there is one.
    pub fn next(&self) -> io::Result<Option<Notice>> {
        while let Some(info) = self.0.read_signal().map_err(io_error)? {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) => return Ok(Some(Notice::Child)),
                Ok(Signal::SIGUSR1) => return Ok(Some(Notice::Look)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sets every signal to its default action.
///
/// A parent may have left signals ignored (`nohup` does), and so does Rust's own start-up with
/// SIGPIPE; every program started from here on would inherit that.
pub fn set_all_to_default() {
    // The kernel's own form of an action. All zero is the default action without a mask, on
    // every architecture; none has a longer form.
    let default_action = [0_u64; 4];
    for signal in 1..=SIGNAL_MAX {
        // SAFETY: the action is readable, null asks for no old one, and a set of 64 signals has
        // 8 bytes. SIGKILL and SIGSTOP are refused, which changes nothing. The C library's own
        // call would refuse 32 and 33 as well, but its posix_spawn leaves them ignored.
        unsafe {
            let no_old_action = std::ptr::null_mut::<libc::c_void>();
            let action = default_action.as_ptr();
            libc::syscall(libc::SYS_rt_sigaction, signal, action, no_old_action, 8_usize);
        }
    }
}

/// The largest signal number.
pub const SIGNAL_MAX: i32 = 64;
/// SIGKILL.
pub const KILL: i32 = libc::SIGKILL;
/// SIGSTOP.
pub const STOP: i32 = libc::SIGSTOP;
/// SIGCONT.
pub const CONTINUE: i32 = libc::SIGCONT;
/// SIGUSR1: "look again".
pub const LOOK: i32 = libc::SIGUSR1;
