//! One sync of a folder for all who asked before it began: group commit.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
};

use crate::sys::fs;

/// Syncs one folder on behalf of many threads.
#[derive(Debug)]
pub(super) struct GroupSync {
    path: PathBuf,
    rounds: Mutex<Rounds>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Rounds {
    begun: u64,
    done: u64,
    is_running: bool,
    /// How many wait for a round to end.
    waiting: usize,
    /// The rounds that failed last, by number, for those who waited for them.
    failed: Option<(u64, io::ErrorKind, Option<i32>)>,
}

impl GroupSync {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), rounds: Mutex::default(), ended: Condvar::new() }
    }

    /// Returns once a sync that began after this call has ended.
    ///
    /// A failed sync is an error for everyone who waited for it; it is not tried again on their
    /// behalf, since the kernel may have dropped the pages it could not write (fsync(2)).
    pub(super) fn sync(&self) -> io::Result<()> {
        self.sync_by(|| fs::sync_dir(&self.path))
    }

    fn sync_by(&self, sync: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = rounds.begun + 1;
        loop {
            if rounds.done >= wanted {
                return match rounds.failed {
                    Some((round, _, Some(errno))) if round >= wanted => {
                        Err(io::Error::from_raw_os_error(errno))
                    }
                    Some((round, kind, None)) if round >= wanted => Err(kind.into()),
                    Some(_) | None => Ok(()),
                };
            }
            if rounds.is_running {
                rounds.waiting += 1;
                rounds = self.ended.wait(rounds).unwrap_or_else(PoisonError::into_inner);
                rounds.waiting -= 1;
                continue;
            }
            rounds.is_running = true;
            rounds.begun += 1;
            let round = rounds.begun;
            drop(rounds);
            let result = sync();
            rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
            rounds.is_running = false;
            rounds.done = round;
            if let Err(error) = result {
                rounds.failed = Some((round, error.kind(), error.raw_os_error()));
            }
            self.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
