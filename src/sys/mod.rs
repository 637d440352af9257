//! Every system call and every `unsafe` of the project, as functions named for what they achieve.
//!
//! Nothing here knows what a job is. Functions return `io::Error` so that callers can name the
//! file or the process in errors of their own.

pub mod account;
pub mod capability;
pub mod cgroup;
pub mod clock;
pub mod confine;
pub mod dir;
pub mod faults;
pub mod foreign;
pub mod fs;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub mod inotify;
pub mod lock;
pub mod marks;
pub mod ownership;
mod pidfd;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tree;

use std::io;

use nix::errno::Errno;

/// "Invalid argument": for input that the kernel never sees but would refuse so.
pub const EINVAL: i32 = nix::libc::EINVAL;
/// Whether an error says that something is in the way that stays there, not that something is
/// short for now.
pub fn is_lasting(errno: i32) -> bool {
    use nix::libc::{EACCES, EEXIST, EISDIR, ELOOP, ENOTDIR, ENXIO, EPERM};
    [EINVAL, EACCES, EEXIST, EISDIR, ELOOP, ENOTDIR, ENXIO, EPERM].contains(&errno)
}

/// EIO.
pub const EIO: i32 = nix::libc::EIO;

/// The number of an operating system error, if it is one.
pub fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// The name of an error number, for example `ENOENT`.
pub fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("E{errno}"),
        known => format!("{known:?}"),
    }
}

/// Whether an error says that a disk or a quota is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    use nix::libc::{EDQUOT, ENOSPC};
    matches!(error.raw_os_error(), Some(ENOSPC | EDQUOT))
}

/// Whether an error says that something else stands in the place of a plain file: a link, a folder,
/// a socket, a FIFO, a device, or more than a file of its kind can hold.
pub fn is_no_plain_file(error: &io::Error) -> bool {
    use nix::libc::{EISDIR, ELOOP, ENXIO};
    let by_kind = [io::ErrorKind::InvalidInput, io::ErrorKind::FileTooLarge];
    matches!(error.raw_os_error(), Some(ELOOP | EISDIR | ENXIO)) || by_kind.contains(&error.kind())
}

fn io_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}
