//! Changes in the task directory, noticed and looked at.
//!
//! One thread with one inotify instance watches the folder of each active job, the inbox, and the
//! folders of the days for what others put there or take away. Once a second it also looks at
//! what no notice would tell of: jobs that an earlier service started, the inbox while a folder
//! in it is being filled, folders that could not be read; everything where inotify is missing.

mod folders;

use std::{
    collections::HashSet,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    catalog::Catalog,
    job::{Job, JobId, State},
    launch::Launch,
    queue::Queue,
    store::{self, JobDir, StoreError},
    sys::{
        inotify::{Noticed, Notifier, Watch},
        lock, poll,
        process::PidFd,
        signal,
    },
};

/// How often is looked for what no notice tells of.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The same where there are no notices at all.
const BLIND_SWEEP_EVERY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Job(JobId),
    Inbox,
    /// The folder of a day: job folders come and go.
    Day,
    /// The folder of all days.
    Days,
}

/// The watcher.
pub struct Watcher {
    catalog: Arc<Catalog>,
    queue: Arc<Queue>,
    launch: Arc<Launch>,
    notifier: Option<Notifier<Key>>,
    /// What is known of the folders of days where no notice tells of them.
    days: Mutex<folders::Days>,
    is_stopping: AtomicBool,
    on_inbox: Box<dyn Fn() + Send + Sync>,
}

impl Watcher {
    /// A watcher that calls `on_inbox` when the inbox is to be looked at. `run` does the work.
    /// Without `by_notice` it looks at everything twice a second instead of being told.
    pub fn new(
        catalog: Arc<Catalog>,
        queue: Arc<Queue>,
        launch: Arc<Launch>,
        by_notice: bool,
        on_inbox: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        let notifier = by_notice.then(Notifier::new).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "no inotify: changes are noticed within a second");
            None
        });
        let is_stopping = AtomicBool::new(false);
        let days = Mutex::default();
        let watcher = Self { catalog, queue, launch, notifier, days, is_stopping, on_inbox };
        let inbox = watcher.catalog.store().layout().inbox();
        if let Some(notifier) = &watcher.notifier
            && let Err(error) = notifier.watch_entries(&inbox, Key::Inbox)
        {
            tracing::warn!(%error, "the inbox cannot be watched");
        }
        watcher.watch_days();
        watcher
    }

    /// Watches the folder of a job; `None` where that is not possible and the sweep must do.
    pub fn watch(&self, dir: &JobDir, id: JobId) -> Option<Watch> {
        let notifier = self.notifier.as_ref()?;
        notifier.watch_dir(dir.path(), Key::Job(id)).ok()
    }

    fn end_freed_watches(&self) {
        if let Some(notifier) = &self.notifier {
            for watch in self.catalog.take_freed_watches() {
                notifier.unwatch(watch);
            }
        }
    }

    /// Looks at a job and does what follows: frees its place, passes a request on.
    pub fn look(&self, id: JobId) -> Result<Arc<Job>, StoreError> {
        let looked = self.catalog.look(id);
        match &looked {
            Ok(job) if job.state.is_ended() => {
                self.queue.remove(id);
                self.end_freed_watches();
            }
            Ok(job) => self.pass_on(job),
            Err(error) if error.is_missing() => {
                self.forget(id, None);
            }
            Err(error) => {
                // Perhaps half-written: the next notice or sweep looks again.
                self.catalog.note_unreadable(id, error);
            }
        }
        looked
    }

    /// Takes out a job whose folder is gone.
    pub fn forget(&self, id: JobId, known: Option<Arc<Job>>) {
        self.catalog.forget(id, known);
        self.queue.remove(id);
        self.end_freed_watches();
    }

    /// A request in the folder that nobody has taken up yet reaches whom it is for.
    fn pass_on(&self, job: &Job) {
        match &job.state {
            State::Queued => {
                if let Some(request) = &job.cancel
                    && let Err(error) = self.queue.cancel(job.id(), request)
                {
                    tracing::warn!(job = %job.id(), %error, "a queued job cannot be cancelled");
                }
            }
            State::Running(running) if job.cancel.is_some() && running.stop.is_none() => poke(job),
            State::Claimed(_)
            | State::Starting(_)
            | State::ExecFailed { .. }
            | State::Running(_)
            | State::Exited { .. }
            | State::Ended { .. } => {}
        }
    }

    /// Watches until `stop`.
    pub fn run(&self) {
        let sweep_every = if self.notifier.is_some() { SWEEP_EVERY } else { BLIND_SWEEP_EVERY };
        let mut next_sweep = Instant::now();
        (self.on_inbox)();
        while !self.is_stopping.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next_sweep {
                self.sweep();
                next_sweep = now + sweep_every;
            }
            let limit = Some(next_sweep.saturating_duration_since(Instant::now()));
            let fd = self.notifier.as_ref().map(|notifier| notifier.as_fd());
            match poll::readable([fd], limit) {
                Ok([true]) => self.take_notices(),
                Ok([false]) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot wait for changes");
                    std::thread::sleep(SWEEP_EVERY);
                }
            }
        }
    }

    /// Lets `run` return.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    fn take_notices(&self) {
        let Some(notifier) = &self.notifier else { return };
        let noticed = match notifier.take(store::tells_of_state) {
            Ok(noticed) => noticed,
            Err(error) => {
                tracing::error!(%error, "cannot read notices");
                return;
            }
        };
        let mut looked = HashSet::new();
        for notice in noticed {
            match notice {
                Noticed::Changed(Key::Job(id)) if looked.insert(id) => drop(self.look(id)),
                Noticed::Changed(Key::Inbox) | Noticed::Gone(Key::Inbox) => (self.on_inbox)(),
                Noticed::Gone(Key::Job(id)) => drop(self.look(id)),
                Noticed::Entry(Key::Day, name) => self.take_folder_notice(&name),
                Noticed::Entry(Key::Days, name) => self.take_day_notice(&name),
                // One look was enough, and other kinds of watches tell in other ways.
                Noticed::Entry(Key::Job(_) | Key::Inbox, _)
                | Noticed::Changed(Key::Job(_) | Key::Day | Key::Days)
                | Noticed::Gone(Key::Day | Key::Days) => {}
                Noticed::Overflow => {
                    self.look_at_all();
                    self.compare_days();
                }
            }
        }
    }

    fn look_at_all(&self) {
        for id in self.catalog.active_ids() {
            let _ = self.look(id);
        }
        (self.on_inbox)();
    }

    /// Looks for what no notice tells of, such as a supervisor that is gone.
    pub(crate) fn sweep(&self) {
        self.catalog.tend_events();
        if self.notifier.is_none() {
            self.look_at_all();
            self.compare_changed_days();
        }
        self.look_at_unreadable();
        for id in self.catalog.active_ids() {
            if !self.queue.is_running(id) {
                continue;
            }
            let Ok(job) = self.catalog.get(id) else { continue };
            if job.state.supervisor().is_some() {
                self.adopt_if_orphaned(id);
            }
        }
        (self.on_inbox)();
    }

    /// Has the launcher hold what a job with a supervisor needs if that dies: it is the child of an
    /// earlier launcher.
    pub fn keep(&self, id: JobId) {
        if let Err(error) = self.launch.keep(id) {
            tracing::warn!(job = %id, %error, "a running job is held by nobody but its supervisor");
        }
    }

    /// Has a job taken up by another supervisor whose own is dead, if that is so.
    pub fn adopt_if_orphaned(&self, id: JobId) {
        let dir = self.catalog.store().job_dir(id);
        if lock::is_held(&dir.lock_path()).unwrap_or(true) {
            return;
        }
        // It may have ended since it was last looked at.
        if self.look(id).is_ok_and(|job| job.state.supervisor().is_some())
            && let Err(error) = self.launch.adopt(id)
        {
            tracing::warn!(job = %id, %error, "a job without supervisor cannot be taken up yet");
        }
    }
}

/// Makes the supervisor of a job look at its folder. Without effect if it is gone.
pub fn poke(job: &Job) {
    let Some(supervisor) = job.state.supervisor() else { return };
    let opened = PidFd::open_exactly(supervisor.pid, supervisor.start_ticks);
    match opened {
        Ok(Some(handle)) => {
            if let Err(error) = handle.signal(signal::LOOK) {
                tracing::warn!(job = %job.id(), %error, "a supervisor cannot be signalled");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(job = %job.id(), %error, "a supervisor cannot be found"),
    }
}
