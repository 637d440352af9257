//! Reads the files that a client's credentials are in. A secret that others can read is refused:
//! who may read it may use it.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::CredentialError;

/// What the mode of a secret must not have: anything for the group or for others.
const MODE_OF_OTHERS: u32 = 0o077;

/// The bytes of a file that only its owner may read, and what the file is.
pub(super) fn read(
    what: &'static str,
    path: &Path,
    bytes_max: u64,
) -> Result<(Vec<u8>, Metadata), CredentialError> {
    let unreadable = |source| CredentialError::Unreadable { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that what is checked is what is read.
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(CredentialError::ReadableByOthers { what, path: path.to_owned(), mode });
    }
    Ok((bounded(file, bytes_max).map_err(unreadable)?, metadata))
}

/// The bytes of a file that anybody may read.
pub(super) fn read_public(
    what: &'static str,
    path: &Path,
    bytes_max: u64,
) -> Result<Vec<u8>, CredentialError> {
    File::open(path)
        .and_then(|file| bounded(file, bytes_max))
        .map_err(|source| CredentialError::Unreadable { what, path: path.to_owned(), source })
}

fn bounded(file: File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if count as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("is larger than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_that_anybody_else_can_touch_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "x").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = read("token file", &path, 10);
            assert!(
                matches!(refused, Err(CredentialError::ReadableByOthers { mode: m, .. }) if m == mode),
                "{mode:o}"
            );
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read("token file", &path, 10).unwrap().0, b"x");
        }
    }

    #[test]
    fn a_file_beyond_its_bound_and_an_endless_one_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        fs::write(&path, "12345").unwrap();
        assert!(read_public("CA file", &path, 4).is_err());
        assert_eq!(read_public("CA file", &path, 5).unwrap(), b"12345");
        let endless = read_public("CA file", Path::new("/dev/zero"), 1000);
        assert!(matches!(endless, Err(CredentialError::Unreadable { .. })));
    }
}
