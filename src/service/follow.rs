//! Noticing output while somebody follows it: one inotify instance, one watch for each job
//! that is followed, however many follow it.

use std::{
    collections::{HashMap, HashSet},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

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
    grown: Mutex<Grown>,
    any_growth: Notify,
    is_stopping: AtomicBool,
}

/// Which jobs have grown, for one who follows all of them.
#[derive(Debug, Default)]
struct Grown {
    is_collecting: bool,
    ids: HashSet<JobId>,
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
    /// Follows nothing yet. `run` does the work. Without `by_notice` followed output is looked at
    /// every so often.
    pub fn new(by_notice: bool) -> Self {
        let notifier = by_notice.then(Notifier::new).transpose();
        if let Err(error) = &notifier {
            tracing::warn!(%error, "no inotify: followed output is looked at ten times a second");
        }
        Self {
            notifier: notifier.ok().flatten(),
            followed: Mutex::default(),
            grown: Mutex::default(),
            any_growth: Notify::new(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Whether nothing tells of growth.
    pub(super) fn is_blind(&self) -> bool {
        self.notifier.is_none()
    }

    /// Begins or ends to collect which of the followed jobs have grown.
    pub(super) fn collect(&self, is_collecting: bool) {
        *self.grown.lock().unwrap_or_else(PoisonError::into_inner) =
            Grown { is_collecting, ids: HashSet::new() };
    }

    /// The jobs that have grown since this was last asked.
    pub(super) fn take_grown(&self) -> HashSet<JobId> {
        let mut grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut grown.ids)
    }

    /// Returns once a job has grown.
    pub(super) async fn any_growth(&self) {
        self.any_growth.notified().await;
    }

    fn note_growth<'a>(&self, ids: impl Iterator<Item = &'a JobId>) {
        let mut grown = self.grown.lock().unwrap_or_else(PoisonError::into_inner);
        if grown.is_collecting {
            grown.ids.extend(ids);
            self.any_growth.notify_one();
        }
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
                        self.note_growth([id].iter());
                        if let Some(entry) = followed.get(&id) {
                            entry.growth.send_modify(|count| *count += 1);
                        }
                    }
                    // Nothing is watched by name here.
                    Noticed::Entry(..) => {}
                    Noticed::Overflow => {
                        self.note_growth(followed.keys());
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
