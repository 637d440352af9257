//! What can be done with jobs, whoever asks: a call over gRPC or a folder in the inbox.
//!
//! Everything here blocks on the disk and belongs on a thread that may. Nothing here knows the
//! wire: refusals are values, and `service` alone gives them their codes.

mod change;
mod inbox;
mod rate;
mod stop;
mod submit;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use change::TimeoutWish;
pub use submit::{Asked, Submitted};

use self::rate::Rate;
use crate::{
    access::Audit,
    catalog::{Catalog, Seen},
    job::{Confinement, Durability, Job, JobId, Policy, Violation},
    queue::Queue,
    store::StoreError,
    watcher::Watcher,
};

/// What a server decides for jobs that leave it open.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Where jobs run that do not say.
    pub working_dir: PathBuf,
    /// The rules of the host, which no caller changes.
    pub confinement: Confinement,
    /// The run time limit of jobs without one.
    pub timeout: Option<Duration>,
    /// What acknowledged jobs survive.
    pub durability: Durability,
    /// The most bytes of standard input.
    pub stdin_bytes_max: u64,
    /// What jobs may be.
    pub policy: Policy,
    /// The most jobs of one principal that are accepted in a minute.
    pub per_minute_max: Option<u32>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The request is wrong.
    #[error("the request is wrong")]
    Invalid(Vec<Violation>),
    /// The request id stands for another spec.
    #[error("the request id stands for the job {0}, which has another spec")]
    RequestIdReused(JobId),
    /// The queue is full.
    #[error("the queue is full")]
    QueueFull,
    /// The principal has used up what it may have of something.
    #[error("{principal} has reached {setting} = {limit}")]
    Quota {
        /// Whose share it is.
        principal: String,
        /// The setting.
        setting: &'static str,
        /// The most.
        limit: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// The service shuts down.
    #[error("the service shuts down")]
    Draining,
    /// The job waits to be started.
    #[error("the job {0} has not started")]
    NotStarted(JobId),
    /// The job has ended.
    #[error("the job {0} has ended")]
    Ended(JobId),
    /// The job has not ended.
    #[error("the job {0} has not ended")]
    Active(JobId),
    /// Secrets of the old job are needed again.
    #[error("secrets of the job {id} are missing")]
    MissingSecrets {
        /// The old job.
        id: JobId,
        /// Their names.
        keys: Vec<String>,
    },
    /// The supervisor of the job did not answer in time.
    #[error("the supervisor of the job {0} did not answer in time")]
    NoAnswer(JobId),
    /// The store failed, or knows no such job.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system failed.
    #[error("cannot {action}")]
    System {
        /// The verb.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// The operations, and what they share.
pub struct Operations {
    catalog: Arc<Catalog>,
    queue: Arc<Queue>,
    watcher: Arc<Watcher>,
    defaults: Defaults,
    is_draining: AtomicBool,
    /// Calls with one request id go one after the other.
    requests: Turns<(String, String)>,
    /// Changes of one job's labels or limit go one after the other.
    changes: Turns<JobId>,
    rate: Rate,
    audit: Arc<Audit>,
}

impl Operations {
    /// The operations on these parts.
    pub fn new(
        catalog: Arc<Catalog>,
        queue: Arc<Queue>,
        watcher: Arc<Watcher>,
        defaults: Defaults,
        audit: Arc<Audit>,
    ) -> Self {
        let rate = Rate::new(defaults.per_minute_max);
        Self {
            rate,
            audit,
            catalog,
            queue,
            watcher,
            defaults,
            is_draining: AtomicBool::new(false),
            requests: Mutex::default(),
            changes: Mutex::default(),
        }
    }

    /// The index of jobs.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The record of what was done.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// The watcher.
    pub fn watcher(&self) -> &Arc<Watcher> {
        &self.watcher
    }

    /// What the server decides for jobs that leave it open.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// Accepts no more jobs.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Whether no more jobs are accepted.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    fn is_synced(&self) -> bool {
        self.defaults.durability == Durability::Power
    }
}

/// Waits for a job to be as wanted, by its changes, for at most `limit`. Blocks a thread that
/// belongs to a runtime.
///
/// Returns the job as it is then and whether it is as wanted; `Missing` if it goes meanwhile.
fn wait_for(
    operations: &Operations,
    id: JobId,
    limit: Duration,
    is_wanted: impl Fn(&Job) -> bool,
) -> Result<(Arc<Job>, bool), StoreError> {
    let changes = operations.catalog.subscribe(id);
    // After the subscription: what changes between the two is seen by one of them.
    let job = operations.watcher.look(id)?;
    let Some(mut changes) = changes.filter(|_| !is_wanted(&job)) else {
        let is_reached = is_wanted(&job);
        return Ok((job, is_reached));
    };
    let reached = changes.wait_for(|seen| match seen {
        Seen::Job(job) => is_wanted(job),
        Seen::Deleted => true,
    });
    let runtime = tokio::runtime::Handle::current();
    // Out of time, or out of the index: the last look decides.
    runtime.block_on(async {
        let _ = tokio::time::timeout(limit, reached).await;
    });
    let job = operations.watcher.look(id)?;
    let is_reached = is_wanted(&job);
    Ok((job, is_reached))
}

/// A mutex for each key, for as long as somebody uses it.
type Turns<K> = Mutex<HashMap<K, Arc<Mutex<()>>>>;

/// Does `work` while nobody else works on the same key.
fn one_at_a_time<K: std::hash::Hash + Eq + Clone, T>(
    locks: &Turns<K>,
    key: &K,
    work: impl FnOnce() -> T,
) -> T {
    let mine = {
        let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(key.clone()).or_default())
    };
    let done = {
        let _turn = mine.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    };
    let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
    // Two: this one and the map's. Nobody can take another while the map is locked.
    if Arc::strong_count(&mine) <= 2 {
        locks.remove(key);
    }
    done
}
