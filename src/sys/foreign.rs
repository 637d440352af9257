//! Files in folders of other users, who may change them while we look.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::libc;

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

/// Takes all bytes out of a regular file, on the disk too, where it may not be ours to remove.
///
/// One with a second name is an error: whoever owns the folder may have linked to it what only we
/// may write.
pub fn empty(path: &Path) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() > 1 {
        let text = "it is not a regular file with this name alone";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    fs::resize(&file, 0)?;
    fs::sync(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_emptied_unless_it_has_another_name_or_is_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [own, linked, link] = ["own", "linked", "link"].map(|name| folder.path().join(name));
        std::fs::write(&own, "secret").unwrap();
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(empty(&link).is_err());
        std::fs::hard_link(&own, &linked).unwrap();
        assert!(empty(&linked).is_err());
        assert_eq!(std::fs::read(&own).unwrap(), b"secret");
        std::fs::remove_file(&linked).unwrap();
        empty(&own).unwrap();
        assert_eq!(std::fs::read(&own).unwrap(), b"");
        assert!(empty(folder.path()).is_err());
    }

    #[test]
    fn only_the_head_of_a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(read_head_if_any(&path, 3).unwrap(), None);
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_head_if_any(&path, 3).unwrap().unwrap(), b"123");
        assert_eq!(read_head_if_any(&path, 9).unwrap().unwrap(), b"12345");
    }
}
