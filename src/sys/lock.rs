//! Locks that the kernel drops when their holder dies, however it dies: flock(2).

use std::{fs::File, io, path::Path};

use nix::fcntl::{Flock, FlockArg};

use super::{fs, io_error};

/// An exclusive lock on a file. Forked children share it: it ends with the last of them.
#[derive(Debug)]
pub struct Lock(Flock<File>);

impl Lock {
    /// Takes the lock of an existing file, or tells that another holds it.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        Self::try_take_file(fs::open_to_write(path)?)
    }

    /// Takes the lock of an open file, or tells that another holds it.
    pub fn try_take_file(file: File) -> io::Result<Option<Self>> {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(io_error(errno)),
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

/// Whether somebody holds the lock of the file. The answer may be old when it arrives.
pub fn is_held(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_released_at_once) => Ok(false),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(io_error(errno)),
    }
}
