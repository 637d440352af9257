//! LOG events: while somebody watches for them, what active jobs have written is told.
//!
//! One task for all watchers. It is woken by growing logs, tells many small writes together, and
//! ends with the last watcher. What was written while nobody watched is told with what comes
//! next, at the latest before the end of the job.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    JobApi,
    follow::{Follow, Follower},
};
use crate::{
    job::JobId,
    operations::Operations,
    store::{EventKind, LogReader},
};

/// Writes within this time are told together.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the task looks whether it is needed, and at all active jobs where nothing tells of
/// growth.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Events that are taken together.
const EVENTS_AT_ONCE: usize = 256;

/// How many watch for output, and whether the task runs.
#[derive(Debug, Default)]
pub(super) struct OutputWatchers(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    count: usize,
    is_running: bool,
}

/// One of them, until it is dropped.
pub(super) struct OutputWatch(Arc<OutputWatchers>);

impl OutputWatchers {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the task has to go on; if not, the next watcher starts another.
    fn goes_on(&self, follow: &Follow) -> bool {
        let mut watchers = self.lock();
        watchers.is_running = watchers.count > 0;
        if !watchers.is_running {
            // Under the lock: the next task must not lose what this one gives up.
            follow.collect(false);
        }
        watchers.is_running
    }
}

impl Drop for OutputWatch {
    fn drop(&mut self) {
        self.0.lock().count -= 1;
    }
}

/// The task that looks at growing logs.
struct Teller {
    api: JobApi,
    /// Kept for their watches of the jobs' folders.
    followed: HashMap<JobId, Follower>,
    /// All events up to this one have been looked at.
    position: u64,
}

impl JobApi {
    /// Sees to it that output is told. When this returns, what had been written is.
    pub(super) async fn watch_output(&self) -> OutputWatch {
        let watchers = Arc::clone(&self.0.output_watchers);
        let is_first = {
            let mut watchers = watchers.lock();
            watchers.count += 1;
            let is_first = !std::mem::replace(&mut watchers.is_running, true);
            if is_first {
                self.0.follow.collect(true);
            }
            is_first
        };
        let watch = OutputWatch(watchers);
        if is_first {
            let position = *self.catalog().event_head().borrow();
            let teller = Teller { api: self.clone(), followed: HashMap::new(), position };
            tokio::spawn(teller.run());
        }
        self.tell_output(self.catalog().active_ids()).await;
        watch
    }

    async fn tell_output(&self, ids: Vec<JobId>) {
        if ids.is_empty() {
            return;
        }
        let told = self.blocking("telling of output", move |operations| {
            for id in ids {
                tell_one(operations, id);
            }
            Ok(())
        });
        // The only fault is a panic, and that is in the log.
        let _ = told.await;
    }
}

impl Teller {
    async fn run(mut self) {
        let follow = Arc::clone(&self.api.0.follow);
        let mut head = self.api.catalog().event_head();
        let mut grown: HashSet<JobId> = self.follow_active();
        while self.api.0.output_watchers.goes_on(&follow) {
            self.api.tell_output(grown.drain().collect()).await;
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                () = follow.any_growth() => {}
                changed = head.changed() => if changed.is_err() { return },
                () = self.api.drained() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if follow.is_blind() {
                        grown.extend(self.api.catalog().active_ids());
                    }
                }
            }
            let newest = *head.borrow_and_update();
            grown.extend(self.follow_new(newest));
            grown.extend(follow.take_grown());
        }
    }

    /// Follows what is active, and tells what that is.
    fn follow_active(&mut self) -> HashSet<JobId> {
        let active: HashSet<JobId> = self.api.catalog().active_ids().into_iter().collect();
        self.followed.retain(|id, _| active.contains(id));
        for id in &active {
            self.follow(*id);
        }
        active
    }

    fn follow(&mut self, id: JobId) {
        let dir = self.api.catalog().store().job_dir(id);
        let follow = &self.api.0.follow;
        self.followed.entry(id).or_insert_with(|| follow.follow(&dir, id));
    }

    /// Follows the jobs that have come since, and no longer those that went. Tells which came:
    /// they may have written before they were followed.
    fn follow_new(&mut self, newest: u64) -> Vec<JobId> {
        let mut came = Vec::new();
        while self.position < newest {
            let Ok(events) = self.api.catalog().events_after(self.position, EVENTS_AT_ONCE) else {
                self.position = newest;
                came.extend(self.follow_active());
                break;
            };
            let Some(last) = events.last() else { break };
            self.position = last.sequence;
            for event in &events {
                match event.kind {
                    EventKind::Started => {
                        self.follow(event.id);
                        came.push(event.id);
                    }
                    EventKind::Ended | EventKind::Deleted => {
                        self.followed.remove(&event.id);
                    }
                    EventKind::Created
                    | EventKind::Updated
                    | EventKind::Matched
                    | EventKind::Log => {}
                }
            }
        }
        came
    }
}

/// Looks at the logs of a job and tells what is new. What cannot be read now is told later.
fn tell_one(operations: &Operations, id: JobId) {
    let catalog = operations.catalog();
    let Ok(job) = catalog.get(id) else { return };
    if job.state.is_ended() {
        return;
    }
    let dir = catalog.store().job_dir(id);
    let sizes = LogReader::open(&dir, [true, true], [0, 0]).and_then(|mut log| log.sizes());
    if let Ok(sizes) = sizes {
        catalog.tell_output(&job, job.state.attempt(), sizes);
    }
}
