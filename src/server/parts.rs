//! The parts of the service: made, given their threads, told to stop.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread,
};

use super::{ServeError, system};
use crate::{
    access::Audit,
    catalog::Catalog,
    config::{CgroupUse, Config, FileNotices},
    job::{Confinement, State},
    launch::Launch,
    launch_message::Notice,
    operations::{Defaults, Operations},
    queue::{Queue, QueueLimits},
    service::Follow,
    store::{Journal, JournalLimits, Store},
    watcher::Watcher,
};

/// The parts that live as long as the service.
pub(super) struct Parts {
    pub(super) catalog: Arc<Catalog>,
    pub(super) queue: Arc<Queue>,
    pub(super) launch: Arc<Launch>,
    pub(super) watcher: Arc<Watcher>,
    pub(super) follow: Arc<Follow>,
    pub(super) operations: Arc<Operations>,
}

/// Makes the parts; nothing runs yet but the launcher.
///
/// Jobs get `open_files` as their soft limit of open files, and the `rules` of the host, with
/// where they run that do not say.
pub(super) fn assemble(
    config: &Config,
    store: &Arc<Store>,
    open_files: u64,
    rules: (Confinement, PathBuf),
) -> Result<Parts, ServeError> {
    let limits = JournalLimits {
        bytes_max: config.journal_max_bytes,
        events_max: config.journal_max_events.into(),
        age_max: config.journal_max_age,
    };
    let journal = Journal::open(store, limits)?;
    let catalog = Arc::new(Catalog::new(Arc::clone(store), journal, config.retention)?);
    let use_groups = config.cgroup == CgroupUse::Auto;
    let launch = Launch::start(&config.root, use_groups, open_files)
        .map_err(system("start the launcher"))?;
    let launch = Arc::new(launch);
    let share = |most: Option<u32>| most.map_or(usize::MAX, |most| most as usize);
    let limits = QueueLimits {
        running_max: config.max_running_jobs as usize,
        queued_max: config.max_queued_jobs as usize,
        running_per_owner_max: share(config.shares.running_max),
        queued_per_owner_max: share(config.shares.queued_max),
    };
    let queue = Arc::new(Queue::new(Arc::clone(&catalog), Arc::clone(&launch), limits));
    // The inbox needs the operations, which need the watcher that looks at the inbox.
    let operations: Arc<OnceLock<Arc<Operations>>> = Arc::default();
    let on_inbox = {
        let operations = Arc::clone(&operations);
        Box::new(move || {
            if let Some(operations) = operations.get() {
                operations.take_inbox();
            }
        })
    };
    let by_notice = config.file_notices == FileNotices::Auto;
    let watcher = Arc::new(Watcher::new(
        Arc::clone(&catalog),
        Arc::clone(&queue),
        Arc::clone(&launch),
        by_notice,
        on_inbox,
    ));
    let (confinement, working_dir) = rules;
    let defaults = Defaults {
        working_dir,
        confinement,
        timeout: config.default_timeout,
        durability: config.durability,
        stdin_bytes_max: config.max_stdin_bytes,
        policy: config.policy.clone(),
        per_minute_max: config.shares.per_minute_max,
    };
    let audit = Arc::new(Audit::of(&config.root, config.audit));
    let made = Operations::new(
        Arc::clone(&catalog),
        Arc::clone(&queue),
        Arc::clone(&watcher),
        defaults,
        audit,
    );
    let made = Arc::new(made);
    // Set once, right here.
    let _ = operations.set(Arc::clone(&made));
    let follow = Arc::new(Follow::new(by_notice));
    Ok(Parts { catalog, queue, launch, watcher, follow, operations: made })
}

/// Gives each part that waits for the kernel its thread.
pub(super) fn start_threads(parts: &Parts) -> Result<(), ServeError> {
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.map(drop).map_err(system("start a thread"))
    };
    let queue = Arc::clone(&parts.queue);
    start("queue", Box::new(move || queue.run()))?;
    let watcher = Arc::clone(&parts.watcher);
    start("watcher", Box::new(move || watcher.run()))?;
    let follow = Arc::clone(&parts.follow);
    start("follow", Box::new(move || follow.run()))?;
    let (launch, watcher, queue) =
        (Arc::clone(&parts.launch), Arc::clone(&parts.watcher), Arc::clone(&parts.queue));
    start(
        "launch",
        Box::new(move || {
            let on_notice = |notice| take_notice(&watcher, &queue, notice);
            let on_restart = || take_over_from_launcher(&watcher, &queue);
            launch.run(on_notice, on_restart);
        }),
    )?;
    let (catalog, watcher) = (Arc::clone(&parts.catalog), Arc::clone(&parts.watcher));
    start("loader", Box::new(move || load_days(&catalog, &watcher)))
}

/// Lets the threads end. They are not waited for: each may sleep for up to a second, and none
/// holds anything that the end of the process could damage.
pub(super) fn stop_threads(parts: &Parts) {
    parts.queue.stop();
    parts.watcher.stop();
    parts.follow.stop();
    parts.launch.stop();
    parts.catalog.stop_loading();
    if let Err(error) = parts.catalog.close_events() {
        tracing::warn!(%error, "the journal cannot be closed: after a boot tokens will be expired");
    }
}

/// Looks at the job that a notice of the launcher is about.
pub(crate) fn take_notice(watcher: &Watcher, queue: &Queue, notice: Notice) {
    match notice {
        Notice::Gone(id) => {
            // Its supervisor may have found the lock taken for a moment: then it starts again.
            match watcher.look(id) {
                Ok(job) if job.state == State::Queued && queue.is_running(id) => {
                    queue.requeue(&job);
                }
                // Another launcher's supervisor has it.
                Ok(job) if job.state.supervisor().is_some() => watcher.keep(id),
                Ok(_) | Err(_) => {}
            }
        }
        Notice::Refused(id, errno) => {
            tracing::warn!(job = %id, errno, "a start was refused; it is tried again");
            if let Ok(job) = watcher.look(id)
                && job.state == State::Queued
            {
                queue.refused(&job, errno);
            }
        }
    }
}

/// Requests may have gone with the old launcher: what was to start is still queued. What runs has
/// nobody left to take it up but the new one.
fn take_over_from_launcher(watcher: &Watcher, queue: &Queue) {
    for id in queue.running_ids() {
        match watcher.look(id) {
            Ok(job) if job.state == State::Queued => queue.requeue(&job),
            Ok(_) => watcher.keep(id),
            Err(_) => {}
        }
    }
}

fn load_days(catalog: &Catalog, watcher: &Watcher) {
    loop {
        let loaded = catalog.load_next_day();
        for id in catalog.take_unended() {
            watcher.look_at_folder(id);
        }
        match loaded {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "older jobs cannot be read; List tries again");
                return;
            }
        }
    }
}
