//! Files: made whole or not at all, written in place, synced on purpose.
//!
//! Files are private to the account (0600, folders 0700) whatever the umask says, are never
//! inherited by programs, and a symbolic link in the last place of a path is never followed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, RenameFlags, fallocate, open, renameat2},
    libc,
    sys::stat::Mode,
    unistd::linkat,
};

#[cfg(any(test, feature = "faults"))]
use super::faults::Change;
use super::{faults, io_error};

/// Notes a change where tests can record it.
macro_rules! note {
    ($change:expr) => {{
        #[cfg(any(test, feature = "faults"))]
        faults::note(|| $change);
    }};
}

pub(super) const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Makes the private folder `path`; its parent must exist. An existing one is an error.
pub fn create_dir(path: &Path) -> io::Result<()> {
    faults::check()?;
    std::fs::DirBuilder::new().mode(DIR_MODE).create(path)?;
    note!(Change::MadeDir(path.to_owned()));
    Ok(())
}

/// Makes the private folder `path` and its parents where they are missing.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    faults::check()?;
    std::fs::DirBuilder::new().mode(DIR_MODE).recursive(true).create(path)?;
    note!(Change::MadeDir(path.to_owned()));
    Ok(())
}

/// Makes the named file with `bytes` in it, whole or not at all. An existing one is an error.
///
/// The name appears only once the bytes are in the file. With `sync` they are on the disk by
/// then as well; the name itself needs a sync of the folder.
pub fn create_whole(dir: &Path, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    faults::check()?;
    let file = match open(dir, flags, Mode::from_bits_truncate(FILE_MODE)) {
        Ok(fd) => File::from(fd),
        // Some file systems (9p, overlays of old kernels) have no unnamed files.
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EISDIR) => {
            return create_whole_by_rename(dir, name, bytes, sync);
        }
        Err(errno) => return Err(io_error(errno)),
    };
    note!(Change::made(&file, None));
    write_at(&file, bytes, 0)?;
    if sync {
        self::sync(&file)?;
    }
    faults::check()?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = dir.join(name);
    linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW)
        .map_err(io_error)?;
    note!(Change::Linked(Change::file(&file), path));
    Ok(())
}

fn create_whole_by_rename(dir: &Path, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    remove_if_any(&temporary)?;
    let file = write_new(&temporary, bytes, sync)?;
    faults::check()?;
    let path = dir.join(name);
    std::fs::hard_link(&temporary, &path)?;
    note!(Change::Linked(Change::file(&file), path));
    drop(file);
    remove_if_any(&temporary)
}

/// Replaces the named file by one with `bytes`, all or nothing.
///
/// A reader sees the old bytes or the new ones, never a mixture. With `sync` that holds after
/// a power cut too, once the folder is synced.
pub fn replace(dir: &Path, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    // A leftover of a crash is not a special case.
    remove_if_any(&temporary)?;
    write_new(&temporary, bytes, sync)?;
    rename(&temporary, &dir.join(name))
}

fn write_new(path: &Path, bytes: &[u8], sync: bool) -> io::Result<File> {
    let file = create_new(path)?;
    write_at(&file, bytes, 0)?;
    if sync {
        self::sync(&file)?;
    }
    Ok(file)
}

/// Renames a file or folder; what stands at `to` is replaced if it can be.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    faults::check()?;
    std::fs::rename(from, to)?;
    note!(Change::Renamed(from.to_owned(), to.to_owned()));
    Ok(())
}

/// Puts all of a file on the disk: its bytes and what is known of it.
pub fn sync(file: &File) -> io::Result<()> {
    faults::check()?;
    file.sync_all()?;
    note!(Change::Synced(Change::file(file)));
    Ok(())
}

/// Puts the bytes of a file on the disk.
pub fn sync_data(file: &File) -> io::Result<()> {
    faults::check()?;
    file.sync_data()?;
    note!(Change::Synced(Change::file(file)));
    Ok(())
}

/// Cuts a file off or extends it.
pub fn resize(file: &File, bytes: u64) -> io::Result<()> {
    faults::check()?;
    file.set_len(bytes)?;
    note!(Change::Resized(Change::file(file), bytes));
    Ok(())
}

/// Makes an empty private file for reading and writing. An existing one is an error.
pub fn create_new(path: &Path) -> io::Result<File> {
    faults::check()?;
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
    note!(Change::made(&file, Some(path)));
    Ok(file)
}

/// Makes an empty private file with `bytes` reserved for it, so that filling it needs no room.
///
/// The size stays zero: what has not been written is not there for readers either. File
/// systems that cannot reserve are taken as they are.
pub fn create_reserved(path: &Path, bytes: u64) -> io::Result<File> {
    let file = create_new(path)?;
    match reserve(&file, bytes) {
        Ok(()) => Ok(file),
        Err(error) => {
            drop(file);
            let _ = remove_if_any(path);
            Err(error)
        }
    }
}

/// Sets `bytes` aside for a file from its beginning. The size stays.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    faults::check()?;
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(io_error(errno)),
    }
}

/// Takes the bytes of a range out of a file: they read as zeros and take no room where they fill
/// whole blocks. The size stays.
pub fn punch_hole(file: &File, from: u64, to: u64) -> io::Result<()> {
    let Some(length) = to.checked_sub(from).filter(|length| *length > 0) else { return Ok(()) };
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    fallocate(file, flags, number(from), number(length)).map_err(io_error)
}

/// A second descriptor for the same open file.
pub fn share(file: &File) -> io::Result<File> {
    file.try_clone()
}

/// Where the next bytes of a file are that are no hole, from `offset` on; `None` if there are
/// none. A file system that does not tell says that they are there.
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let from = i64::try_from(offset).unwrap_or(i64::MAX);
    match nix::unistd::lseek(file, from, nix::unistd::Whence::SeekData) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        Err(errno) => Err(io_error(errno)),
    }
}

/// Opens a file for reading and writing, or makes it.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match open_to_write(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match create_new(path) {
            // Another was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_to_write(path),
            created => created,
        },
        opened => opened,
    }
}

/// Opens a regular file for reading and for appending, or makes it.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    faults::check()?;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(FILE_MODE);
    check_regular(options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?)
}

/// Adds bytes to the end of a file, wherever another writer has moved it.
pub fn append(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    faults::check()?;
    file.write_all(bytes)
}

/// Opens an existing file for reading and writing.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    faults::check()?;
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Opens a regular file for reading. A FIFO, a device or a link planted there is an error.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK the open of a FIFO would wait for a writer.
    faults::check()?;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    check_regular(file)
}

fn check_regular(file: File) -> io::Result<File> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    file.metadata()?.is_file().then_some(file).ok_or_else(other)
}

/// Reads a regular file of at most `bytes_max` bytes.
pub fn read_small(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    read_regular(open_regular(path)?, bytes_max)
}

fn read_regular(file: File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let text = format!("it is larger than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Reads a regular file that an administrator named, links followed, and tells its mode.
pub fn read_named(path: &Path, bytes_max: usize) -> io::Result<(Vec<u8>, u32)> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = check_regular(OpenOptions::new().read(true).custom_flags(flags).open(path)?)?;
    let mode = file.metadata()?.mode() & 0o7777;
    Ok((read_regular(file, bytes_max)?, mode))
}

/// Reads a regular file, or tells that there is none.
pub fn read_small_if_any(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    match read_small(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes all of `bytes` at `offset`; the position of the file does not matter.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    faults::check()?;
    file.write_all_at(bytes, offset)?;
    note!(Change::Wrote(Change::file(file), offset, bytes.to_vec()));
    Ok(())
}

/// Reads at `offset` until `buffer` is full or the file ends.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Puts the entries of a folder on the disk.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    faults::check()?;
    File::open(path)?.sync_all()?;
    note!(Change::SyncedDir(path.to_owned()));
    Ok(())
}

/// The size of the file at `path`; zero if there is none.
pub fn size(path: &Path) -> io::Result<u64> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// When the file at `path` was last written; `None` if that cannot be told.
pub fn modified(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::symlink_metadata(path).ok()?.modified().ok()
}

/// Removes a file; one that is not there is no error.
pub fn remove_if_any(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => note!(Change::Removed(path.to_owned())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

/// Renames without ever replacing what stands at `to`.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    faults::check()?;
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).map_err(io_error)?;
    note!(Change::Renamed(from.to_owned(), to.to_owned()));
    Ok(())
}

/// Closes every descriptor from 3 on but these. Whoever owned one of the others must not use it
/// any more.
pub fn close_all_but(kept: &[RawFd]) {
    let mut kept: Vec<RawFd> = kept.iter().copied().filter(|fd| *fd >= 3).collect();
    kept.sort_unstable();
    let mut from = 3;
    for end in kept.into_iter().chain([RawFd::MAX]) {
        if from < end {
            // SAFETY: integers only; the caller has given up what is closed here.
            unsafe { libc::syscall(libc::SYS_close_range, from, end - 1, 0) };
        }
        from = end.saturating_add(1);
    }
}

/// Moves standard input to a descriptor that programs do not inherit; nothing takes its place.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let fd = nix::fcntl::fcntl(io::stdin(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3));
    let taken = owned(fd.map_err(io_error)?)?;
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null).map_err(io_error)?;
    Ok(taken)
}

/// Whether the file system of `path` has no inotify for changes made elsewhere.
pub fn is_network(path: &Path) -> io::Result<bool> {
    const NETWORK: [i64; 6] =
        [0x6969, 0x0102_1997, 0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400];
    let kind = nix::sys::statfs::statfs(path).map_err(io_error)?.filesystem_type();
    Ok(NETWORK.contains(&kind.0))
}

pub(super) fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller got this descriptor from the call that made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
