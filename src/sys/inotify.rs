//! Noticing changes in folders: inotify(7). A notice means "look again" and carries no data.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Mutex,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::io_error;

/// What has been noticed.
#[derive(Debug, PartialEq, Eq)]
pub enum Noticed<K> {
    /// Something changed in the watched folder.
    Changed(K),
    /// An entry of this name came or went in a folder that is watched for that.
    Entry(K, OsString),
    /// The watched folder itself was removed or moved away.
    Gone(K),
    /// Notices were lost: look at everything.
    Overflow,
}

/// One inotify instance with a key for each watched path.
#[derive(Debug)]
pub struct Notifier<K> {
    inotify: Inotify,
    keys: Mutex<HashMap<WatchDescriptor, (K, Names)>>,
}

/// Whether the names of entries are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Told,
    Dropped,
}

/// Names one watch, to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watch(WatchDescriptor);

impl<K: Clone> Notifier<K> {
    /// A notifier that watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(io_error)?;
        Ok(Self { inotify, keys: Mutex::new(HashMap::new()) })
    }

    /// Watches a folder for files that were written and closed or moved in, and for its own end.
    pub fn watch_dir(&self, path: &Path, key: K) -> io::Result<Watch> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.add(path, flags, key)
    }

    /// Watches a folder for entries that appear or go.
    pub fn watch_entries(&self, path: &Path, key: K) -> io::Result<Watch> {
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        self.add(path, flags, key)
    }

    /// Watches a folder for entries that are moved in, moved out or removed, by name; with
    /// `created` also for those that are made in it.
    pub fn watch_names(&self, path: &Path, created: bool, key: K) -> io::Result<Watch> {
        let mut flags = AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        flags.set(AddWatchFlags::IN_CREATE, created);
        self.add_with(path, flags, key, Names::Told)
    }

    /// Watches a folder for files that grow, and for its own end.
    pub fn watch_growth(&self, path: &Path, key: K) -> io::Result<Watch> {
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.add(path, flags, key)
    }

    fn add(&self, path: &Path, flags: AddWatchFlags, key: K) -> io::Result<Watch> {
        self.add_with(path, flags, key, Names::Dropped)
    }

    fn add_with(
        &self,
        path: &Path,
        flags: AddWatchFlags,
        key: K,
        names: Names,
    ) -> io::Result<Watch> {
        // Held over the call: a notice must not arrive before its key is known.
        let mut keys = self.lock();
        let watch = self.inotify.add_watch(path, flags).map_err(io_error)?;
        keys.insert(watch, (key, names));
        Ok(Watch(watch))
    }

    /// Ends a watch; one that the kernel has ended already is no error.
    pub fn unwatch(&self, watch: Watch) {
        self.lock().remove(&watch.0);
        // The only error is that the watch is gone.
        let _ = self.inotify.rm_watch(watch.0);
    }

    /// All that has been noticed since the last call, without waiting, but for changes of files
    /// whose names do not matter.
    pub fn take(&self, matters: impl Fn(&OsStr) -> bool) -> io::Result<Vec<Noticed<K>>> {
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(io_error(errno)),
        };
        let mut keys = self.lock();
        let mut noticed = Vec::with_capacity(events.len());
        let mut last = None;
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                noticed.push(Noticed::Overflow);
                continue;
            }
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                keys.remove(&event.wd);
                continue;
            }
            let Some((key, names)) = keys.get(&event.wd) else { continue };
            let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            if event.mask.intersects(gone) {
                noticed.push(Noticed::Gone(key.clone()));
            } else if *names == Names::Told {
                noticed.extend(event.name.map(|name| Noticed::Entry(key.clone(), name)));
            } else if last != Some(event.wd) && event.name.as_ref().is_none_or(|name| matters(name))
            {
                // A run of notices for one folder is one reason to look.
                noticed.push(Noticed::Changed(key.clone()));
                last = Some(event.wd);
            }
        }
        Ok(noticed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WatchDescriptor, (K, Names)>> {
        // A panic elsewhere leaves the map as whole as it was.
        self.keys.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl<K> AsFd for Notifier<K> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
