//! Files in folders of other users, who may change them while we look.

use std::{
    io::{self, Read as _},
    path::Path,
};

use super::fs;

/// The first bytes of a regular file, at most `bytes_max`; none if there is no such file.
pub fn read_head_if_any(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
