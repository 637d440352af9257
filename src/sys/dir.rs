//! Folders: listed, removed, made private.

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use nix::libc;

/// Only the account itself may enter.
const PRIVATE_MODE: u32 = 0o700;

/// The names in a folder that are UTF-8, in no order. A missing folder has none.
pub fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a folder and all in it without following links; one that is not there is no error.
pub fn remove_all(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes a folder of this account away from everybody else; tells whether others had access.
pub fn make_private(path: &Path) -> io::Result<bool> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
    let metadata = folder.metadata()?;
    if metadata.uid() != nix::unistd::geteuid().as_raw() {
        let text = format!("it belongs to the user {}; give another --root", metadata.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let is_open = metadata.mode() & 0o077 != 0;
    if is_open {
        folder.set_permissions(Permissions::from_mode(PRIVATE_MODE))?;
    }
    Ok(is_open)
}
