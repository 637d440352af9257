//! Noticing output while somebody follows it: one inotify instance, one watch for each job
//! that is followed, however many follow it.

use std::{
    collections::HashMap,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    job::JobId,
    store::JobDir,
    sys::{
        inotify::{Noticed, Notifier, Watch},
        poll,
    },
};

/// How often the thread looks whether it is to end.
const STOP_CHECK: Duration = Duration::from_millis(500);

/// The followed jobs.
#[derive(Debug)]
pub struct Follow {
    notifier: Option<Notifier<JobId>>,
    followed: Mutex<HashMap<JobId, Followed>>,
    is_stopping: AtomicBool,
}

#[derive(Debug)]
struct Followed {
    growth: watch::Sender<u64>,
    watch: Option<Watch>,
    followers: usize,
}

/// One follower of one job; the watch ends with the last.
#[derive(Debug)]
pub(super) struct Follower {
    follow: Arc<Follow>,
    id: JobId,
    growth: watch::Receiver<u64>,
}

impl Follow {
    /// Follows nothing yet. `run` does the work.
    pub fn new() -> Self {
        let notifier = Notifier::new();
        if let Err(error) = &notifier {
            tracing::warn!(%error, "no inotify: followed output is looked at ten times a second");
        }
        let followed = Mutex::default();
        Self { notifier: notifier.ok(), followed, is_stopping: AtomicBool::new(false) }
    }

    pub(super) fn follow(self: &Arc<Self>, dir: &JobDir, id: JobId) -> Follower {
        let mut followed = self.lock();
        let entry = followed.entry(id).or_insert_with(|| {
            let watch = self
                .notifier
                .as_ref()
                .and_then(|notifier| notifier.watch_growth(dir.path(), id).ok());
            Followed { growth: watch::Sender::new(0), watch, followers: 0 }
        });
        entry.followers += 1;
        Follower { follow: Arc::clone(self), id, growth: entry.growth.subscribe() }
    }

    /// Passes notices on until `stop`.
    pub fn run(&self) {
        let Some(notifier) = &self.notifier else { return };
        while !self.is_stopping.load(Ordering::Relaxed) {
            if !poll::readable([Some(notifier.as_fd())], Some(STOP_CHECK)).is_ok_and(|[is]| is) {
                continue;
            }
            let followed = self.lock();
            for notice in notifier.take(|_| true).unwrap_or_default() {
                match notice {
                    Noticed::Changed(id) | Noticed::Gone(id) => {
                        if let Some(entry) = followed.get(&id) {
                            entry.growth.send_modify(|count| *count += 1);
                        }
                    }
                    Noticed::Overflow => {
                        for entry in followed.values() {
                            entry.growth.send_modify(|count| *count += 1);
                        }
                    }
                }
            }
        }
    }

    /// Lets `run` return.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Followed>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Follow {
    fn default() -> Self {
        Self::new()
    }
}

impl Follower {
    /// Marks what has been noticed so far as seen. Called before the output is read.
    pub(super) fn mark(&mut self) {
        self.growth.mark_unchanged();
    }

    /// Returns once something was noticed after the mark.
    pub(super) async fn grown(&mut self) {
        const BLIND_PAUSE: Duration = Duration::from_millis(100);
        if self.follow.notifier.is_none() {
            tokio::time::sleep(BLIND_PAUSE).await;
        } else if self.growth.changed().await.is_err() {
            // Its sender lives as long as this follower does.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followed = self.follow.lock();
        if let Some(entry) = followed.get_mut(&self.id) {
            entry.followers -= 1;
            if entry.followers == 0 {
                if let (Some(notifier), Some(watch)) = (&self.follow.notifier, entry.watch) {
                    notifier.unwatch(watch);
                }
                followed.remove(&self.id);
            }
        }
    }
}
