//! The index of jobs in memory: what is active, what there is, who waits, what happened.
//!
//! Everything here can be made again from the store, which alone is believed. A job that has
//! not ended is kept whole; of one that has, a line for List and, for a while, its record.

mod events;
mod listing;
mod recent;
mod removal;
mod telling;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use tokio::sync::watch;

pub use events::NotKept;
pub use listing::{Candidates, Counts};
pub use recent::weight;

use crate::{
    job::{IdClock, Job, JobId, Outline, Time},
    store::{Gone, Opened, Store, StoreError},
    sys::{clock, fs, inotify::Watch},
};

use self::{events::Events, recent::Recent};

/// An active job as those who wait for it see it.
#[derive(Clone, Debug)]
pub enum Seen {
    /// As it is now. The last one a waiter sees may have ended.
    Job(Arc<Job>),
    /// It was removed.
    Deleted,
}

/// A job that has not ended.
#[derive(Debug)]
struct Active {
    seen: watch::Sender<Seen>,
    /// Held while the folder is read and the result told: an older look never tells last.
    looking: Mutex<()>,
    watch: Mutex<Option<Watch>>,
}

/// What had been told before this service started.
#[derive(Debug)]
struct Before {
    gone: HashMap<JobId, Gone>,
    is_new_epoch: bool,
}

/// The index.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<Store>,
    active: RwLock<HashMap<JobId, Arc<Active>>>,
    recent: Mutex<Recent>,
    entries: RwLock<BTreeMap<JobId, Outline>>,
    unreadable: Mutex<BTreeSet<JobId>>,
    loading: listing::Loading,
    owners: Mutex<BTreeSet<Arc<str>>>,
    ids: Mutex<IdClock>,
    /// Jobs that are being accepted: their folders are there before the index has them.
    creating: Mutex<BTreeSet<JobId>>,
    events: Events,
    /// Shared by whoever shows a change that it has not told yet.
    showing: RwLock<()>,
    /// What the journal had told when it was opened.
    before: Before,
    /// Watches of folders that need none any more.
    freed: Mutex<Vec<Watch>>,
    /// Jobs that are on their way out: their end is followed by their removal.
    deleting: Mutex<BTreeMap<JobId, usize>>,
    retention: Option<Duration>,
    /// When ended jobs are due for deletion.
    expiring: Mutex<BTreeSet<(Time, JobId)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic elsewhere left is as good as what any reader finds: the store decides.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalog {
    /// An index of `store` that knows no job yet. Days are loaded by `load_next_day`.
    ///
    /// Ended jobs without a time of their own are due for deletion after `retention`. What happens
    /// is told by `journal`.
    pub fn new(
        store: Arc<Store>,
        journal: Opened,
        retention: Option<Duration>,
    ) -> Result<Self, StoreError> {
        let last = store.last_id()?;
        let days = store.days()?;
        let Opened { journal, gone, is_new_epoch } = journal;
        Ok(Self {
            store,
            active: RwLock::default(),
            recent: Mutex::default(),
            entries: RwLock::default(),
            unreadable: Mutex::default(),
            loading: listing::Loading::of(days),
            owners: Mutex::default(),
            ids: Mutex::new(IdClock::after(last)),
            creating: Mutex::default(),
            events: Events::new(journal),
            showing: RwLock::default(),
            before: Before { gone, is_new_epoch },
            freed: Mutex::default(),
            deleting: Mutex::default(),
            retention,
            expiring: Mutex::default(),
        })
    }

    /// The store behind the index.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A new id, larger than every one before, and the time of acceptance. Its folder is not
    /// taken for somebody else's until the job is inserted or `give_up` is called.
    pub fn next_id(&self) -> std::io::Result<(JobId, Time)> {
        let random = clock::random_u64()?;
        let mut ids = lock(&self.ids);
        let now = Time::from(clock::now());
        let id = ids.next(now, random);
        lock(&self.creating).insert(id);
        Ok((id, now))
    }

    /// A job is not accepted after all.
    pub fn give_up(&self, id: JobId) {
        lock(&self.creating).remove(&id);
    }

    /// Whether a job is being accepted. To be asked before whether it is known.
    pub fn is_creating(&self, id: JobId) -> bool {
        lock(&self.creating).contains(&id)
    }

    /// Takes in a job that has not ended, and tells of it what has not been told.
    pub fn insert(&self, job: Job, watch: Option<Watch>) {
        let _showing = self.show();
        let job = Arc::new(job);
        let id = job.id();
        self.note(&job);
        let seen = watch::Sender::new(Seen::Job(Arc::clone(&job)));
        let active = Active { seen, looking: Mutex::new(()), watch: Mutex::new(watch) };
        self.write_active().insert(id, Arc::new(active));
        lock(&self.creating).remove(&id);
        let matches = self.new_matches(&job);
        self.events.tell(&job, &matches);
    }

    /// Takes in a job that has ended and of which nothing has been told: somebody put its folder
    /// into the store.
    pub fn insert_ended(&self, job: Job) {
        let _showing = self.show();
        let job = Arc::new(job);
        self.note(&job);
        lock(&self.recent).insert(Arc::clone(&job));
        let matches = self.new_matches(&job);
        self.events.tell(&job, &matches);
    }

    /// Whether a job has not ended, as far as is known.
    pub fn is_active(&self, id: JobId) -> bool {
        self.active_job(id).is_some()
    }

    fn note(&self, job: &Job) {
        let owner = self.shared_owner(&job.accepted.owner);
        let entry = Outline {
            kind: job.state.kind(),
            create_time: job.accepted.create_time,
            owner,
            labels: Arc::new(job.labels.clone()),
        };
        self.write_entries().insert(job.id(), entry);
        lock(&self.unreadable).remove(&job.id());
        let ttl = job.accepted.spec.ttl_after_end.or(self.retention);
        if let (Some(end), Some(ttl)) = (job.state.end(), ttl) {
            lock(&self.expiring).insert((end.time.after(ttl), job.id()));
        }
    }

    fn shared_owner(&self, name: &str) -> Arc<str> {
        let mut owners = lock(&self.owners);
        if let Some(known) = owners.get(name) {
            return Arc::clone(known);
        }
        let owner: Arc<str> = Arc::from(name);
        owners.insert(Arc::clone(&owner));
        owner
    }

    /// One job as it is now, unless it has to be read: then who may not block calls `get` elsewhere.
    pub fn get_in_memory(&self, id: JobId) -> Option<Arc<Job>> {
        if let Some(Seen::Job(job)) = self.seen(id) {
            return Some(job);
        }
        let job = lock(&self.recent).get(id)?;
        // Somebody may have removed the folder by hand.
        let lock = self.store.job_dir(id).lock_path();
        fs::size(&lock).is_ok_and(|size| size > 0).then_some(job)
    }

    /// One job as it is now. Blocks while it reads one that is not in memory.
    pub fn get(&self, id: JobId) -> Result<Arc<Job>, StoreError> {
        if let Some(job) = self.get_in_memory(id) {
            return Ok(job);
        }
        let job = Arc::new(self.store.job_dir(id).read()?);
        if job.state.is_ended() {
            lock(&self.recent).insert(Arc::clone(&job));
        }
        Ok(job)
    }

    fn seen(&self, id: JobId) -> Option<Seen> {
        let active = self.active_job(id)?;
        let seen = active.seen.borrow().clone();
        Some(seen)
    }

    fn active_job(&self, id: JobId) -> Option<Arc<Active>> {
        self.active.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// A way to wait for changes of a job; `None` if it is not active.
    pub fn subscribe(&self, id: JobId) -> Option<watch::Receiver<Seen>> {
        self.active_job(id).map(|active| active.seen.subscribe())
    }

    /// The ids of all active jobs, oldest first.
    pub fn active_ids(&self) -> Vec<JobId> {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<JobId> = active.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Reads the folder of an active job again and tells what is new. The job as it is now.
    ///
    /// A file that is half-written or cannot be read now changes nothing: another look follows.
    pub fn look(&self, id: JobId) -> Result<Arc<Job>, StoreError> {
        let Some(active) = self.active_job(id) else { return self.get(id) };
        let _looking = lock(&active.looking);
        let known = match &*active.seen.borrow() {
            // Another look was first; what changes from here on is told by who changes it.
            Seen::Job(job) if job.state.is_ended() => return Ok(Arc::clone(job)),
            Seen::Job(job) => Arc::clone(job),
            Seen::Deleted => return Err(StoreError::Missing(id.to_string())),
        };
        let dir = self.store.job_dir(id);
        if !dir.path().exists() {
            return Err(StoreError::Missing(id.to_string()));
        }
        let job = dir.read_with(Arc::clone(&known.accepted))?;
        let matches = self.new_matches(&job);
        if job.revision <= known.revision {
            if !matches.is_empty() {
                self.events.tell(&known, &matches);
            }
            return Ok(known);
        }
        let job = Arc::new(job);
        let _showing = self.show();
        self.note(&job);
        let has_ended = job.state.is_ended();
        if has_ended {
            lock(&self.recent).insert(Arc::clone(&job));
        }
        // Shown before it is told: a snapshot that begins after the event shows what it tells.
        active.seen.send_replace(Seen::Job(Arc::clone(&job)));
        let is_told = self.events.tell(&job, &matches);
        if has_ended {
            self.write_active().remove(&id);
            lock(&self.freed).extend(lock(&active.watch).take());
            if is_told {
                self.store.unmark_active(id);
            }
        }
        Ok(job)
    }

    /// Takes in a change of a job that has ended: its labels.
    pub fn replace_ended(&self, job: Job) -> Arc<Job> {
        let _showing = self.show();
        let job = Arc::new(job);
        self.note(&job);
        lock(&self.recent).insert(Arc::clone(&job));
        self.events.tell_updated(&job);
        job
    }

    /// Returns once all that anybody can have seen when this was called has been told. Blocks.
    pub fn settle(&self) {
        drop(self.showing.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Held from before a change is shown until it has been told.
    fn show(&self) -> RwLockReadGuard<'_, ()> {
        self.showing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_active(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<JobId, Arc<Active>>> {
        self.active.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_entries(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<JobId, Outline>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        job::{Accepted, Command, Confinement, Durability, EnvInheritance, Spec, State},
        store::{Journal, JournalLimits},
    };

    pub(crate) fn journal(root: &Path) -> Journal {
        let limits = JournalLimits { bytes_max: 1 << 30, events_max: 1 << 30, age_max: None };
        Journal::open(&Store::open(root).unwrap(), limits).unwrap().journal
    }

    pub(crate) fn job_of(millis: u64) -> Arc<Job> {
        let spec = Spec {
            command: Command::Shell("true".to_owned()),
            working_dir: None,
            env: BTreeMap::new(),
            secret_keys: Vec::new(),
            env_inheritance: EnvInheritance::Minimal,
            env_files: Vec::new(),
            stdin_bytes: 0,
            timeout: None,
            idle_timeout: None,
            queue_timeout: None,
            stop_signal: None,
            stop_grace_period: None,
            drain_timeout: None,
            merge_output: false,
            output_matches: Vec::new(),
            output_limits: None,
            labels: BTreeMap::new(),
            display_name: String::new(),
            priority: 0,
            ttl_after_end: Some(Duration::ZERO),
        };
        let time = Time::from_millis(millis);
        let accepted = Accepted {
            id: JobId::first_of(time),
            create_time: time,
            owner: "uid:0".to_owned(),
            request_id: None,
            digest: String::new(),
            spec,
            working_dir: "/".to_owned(),
            timeout: None,
            durability: Durability::Process,
            confinement: Confinement::default(),
        };
        Arc::new(Job {
            accepted: Arc::new(accepted),
            state: State::Queued,
            revision: 1,
            labels: BTreeMap::new(),
            cancel: None,
            kills: Vec::new(),
            timeout_change: None,
        })
    }
}
