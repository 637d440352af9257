//! Clocks, and a timer that counts suspend.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime},
};

use super::io_error;

/// Time since boot, suspend included: the clock of all limits.
pub fn since_boot() -> Duration {
    // The clock exists on every kernel since 2.6.39 and the call has no other error.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The wall clock.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Identifies this boot of the kernel: `/proc/sys/kernel/random/boot_id`.
///
/// Read once: a process does not outlive its boot, and a fork has what its parent read.
pub fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(known) = BOOT_ID.get() {
        return Ok(known);
    }
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| text.trim().to_owned()))
}

/// Fills `bytes` from the kernel's random generator.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: the pointer and the length describe `rest`, which outlives the call.
        let got = unsafe { nix::libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if let Ok(got) = usize::try_from(got) {
            filled += got;
        } else {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// A random number that nobody can guess.
pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A timer on the boot clock that makes a descriptor readable.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Self> {
        use nix::libc::{CLOCK_BOOTTIME, TFD_CLOEXEC, TFD_NONBLOCK, timerfd_create};
        // SAFETY: no pointers are passed; a result of zero or more is a new descriptor of ours.
        let fd = unsafe { timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK) };
        super::fs::owned(fd).map(Self)
    }

    /// Fires once when the boot clock reaches `at`, at once if that has passed.
    pub fn set(&self, at: Duration) -> io::Result<()> {
        use std::os::fd::AsRawFd;

        use nix::libc::{TFD_TIMER_ABSTIME, itimerspec, timerfd_settime, timespec};
        // A zero would switch the timer off.
        let at = TimeSpec::from(at.max(Duration::from_nanos(1)));
        let zero = timespec { tv_sec: 0, tv_nsec: 0 };
        let value = itimerspec { it_interval: zero, it_value: *at.as_ref() };
        // SAFETY: `value` is a valid itimerspec for the length of the call; null is allowed for
        // the old value.
        let result = unsafe {
            timerfd_settime(
                self.0.as_raw_fd(),
                TFD_TIMER_ABSTIME,
                &raw const value,
                std::ptr::null_mut(),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes the expiry, so that the descriptor is no longer readable.
    pub fn clear(&self) -> io::Result<()> {
        let mut count = [0; 8];
        match nix::unistd::read(&self.0, &mut count).map_err(io_error) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
