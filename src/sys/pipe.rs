//! Pipes with and without names: what a job writes its output into.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{OFlag, open},
    libc,
    sys::stat::Mode,
    unistd::mkfifo,
};

use super::{faults, fs::FILE_MODE, io_error};

/// Moves up to `length` bytes from a pipe into a file at `offset`; tells how many. Zero if nobody
/// can write to the pipe any more; `WouldBlock` if it is empty.
///
/// The kernel takes out of the pipe just what it has put into the file (splice(2)): whoever is
/// killed meanwhile, no byte is lost and none comes twice.
pub fn splice(pipe: &File, file: &File, offset: u64, length: usize) -> io::Result<usize> {
    use nix::fcntl::{SpliceFFlags, splice};
    faults::check()?;
    let mut at = i64::try_from(offset).map_err(io::Error::other)?;
    splice(pipe, None, file, Some(&mut at), length, SpliceFFlags::SPLICE_F_NONBLOCK)
        .map_err(io_error)
}

/// How many bytes a pipe holds now.
pub fn available(pipe: &File) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the pointer is valid for the call.
    let result = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if result == 0 {
        Ok(usize::try_from(count).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets a pipe hold up to `bytes`, so that who writes need not wait for who reads so often.
pub fn set_capacity(pipe: impl AsFd, bytes: i32) -> io::Result<()> {
    let capacity = nix::fcntl::FcntlArg::F_SETPIPE_SZ(bytes);
    nix::fcntl::fcntl(pipe, capacity).map(drop).map_err(io_error)
}

/// Makes a private FIFO.
pub fn create(path: &Path) -> io::Result<()> {
    faults::check()?;
    mkfifo(path, Mode::from_bits_truncate(FILE_MODE)).map_err(io_error)
}

/// Opens the reading end of a FIFO without waiting for a writer; reads do not wait either.
pub fn open_reader(path: &Path) -> io::Result<OwnedFd> {
    faults::check()?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    open(path, flags, Mode::empty()).map_err(io_error).and_then(checked)
}

/// Opens both ends of a FIFO in one descriptor: its holder never sees SIGPIPE.
///
/// Linux defines this for FIFOs (fifo(7)); POSIX leaves it open.
pub fn open_both(path: &Path) -> io::Result<OwnedFd> {
    open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
        .map_err(io_error)
        .and_then(checked)
}

/// Whatever else somebody has put in the place of a FIFO is an error.
fn checked(opened: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::unix::fs::FileTypeExt as _;
    let file = File::from(opened);
    if file.metadata()?.file_type().is_fifo() {
        return Ok(file.into());
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// A pipe: its reading end, which does not wait, and its writing end.
pub fn unnamed() -> io::Result<(File, File)> {
    let (reader, writer) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(io_error)?;
    Ok((File::from(reader), File::from(writer)))
}
