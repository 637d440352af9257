//! Whose files are, where it is not the account of this process.

use std::{fs::File, io};

use nix::{
    sys::stat::{Mode, fchmod},
    unistd::{Gid, Uid, fchown},
};

use super::{faults, fs::FILE_MODE, io_error};

/// Gives an open file to another user and group.
pub fn give(file: impl std::os::fd::AsFd, uid: u32, gid: u32) -> io::Result<()> {
    faults::check()?;
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(io_error)
}

/// Lets a group read an open file, and nobody write it but its owner.
pub fn let_group_read(file: &File, gid: u32) -> io::Result<()> {
    faults::check()?;
    fchown(file, None, Some(Gid::from_raw(gid))).map_err(io_error)?;
    fchmod(file, Mode::from_bits_truncate(FILE_MODE | 0o040)).map_err(io_error)
}
