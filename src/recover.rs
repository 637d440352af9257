//! At the start of a service: what an earlier one left, who lives, who is gone.
//!
//! Only jobs that were active are read before the service answers; what has ended waits.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    catalog::Catalog,
    job::{Job, JobId, State},
    queue::Queue,
    store::{Store, StoreError},
    watcher::Watcher,
};

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that wait in the queue.
    pub queued: usize,
    /// Jobs that go on or are being ended.
    pub running: usize,
    /// Jobs that ended while no service was there.
    pub ended: usize,
}

/// Takes up every job that had not ended.
pub fn recover(
    catalog: &Arc<Catalog>,
    queue: &Queue,
    watcher: &Watcher,
) -> Result<Recovered, StoreError> {
    let store = catalog.store();
    let mut recovered = Recovered::default();
    for id in possibly_active(store)? {
        match store.job_dir(id).read() {
            Ok(job) => take_up(catalog, queue, watcher, job, &mut recovered),
            Err(StoreError::Missing(_)) => store.unmark_active(id),
            // Nobody was told of it: its caller got no answer and asks again.
            Err(_) if store.is_unfinished(id) => store.remove_folder(id)?,
            Err(error) => catalog.note_unreadable(id, &error),
        }
    }
    store.note_boot()?;
    Ok(recovered)
}

/// The marked jobs; after a boot of the host, which may have lost marks, all jobs.
fn possibly_active(store: &Store) -> Result<BTreeSet<JobId>, StoreError> {
    let mut ids: BTreeSet<JobId> = store.active_ids()?.into_iter().collect();
    if store.is_first_since_boot()? {
        for day in store.days()? {
            ids.extend(store.ids_of_day(&day)?);
        }
    }
    Ok(ids)
}

fn take_up(
    catalog: &Catalog,
    queue: &Queue,
    watcher: &Watcher,
    job: Job,
    recovered: &mut Recovered,
) {
    let id = job.id();
    match &job.state {
        State::Ended { .. } => {
            recovered.ended += 1;
            catalog.store().unmark_active(id);
            // After a boot of the host every job comes by here; List reads those it needs.
            return;
        }
        State::Queued => recovered.queued += 1,
        State::Claimed(_) | State::Running(_) | State::Exited { .. } => recovered.running += 1,
    }
    // First the watch, then another look: a change in between is seen by one of them.
    let watch = watcher.watch(&catalog.store().job_dir(id), id);
    let is_queued = job.state == State::Queued;
    if is_queued {
        catalog.insert(job.clone(), watch, false);
        queue.add(&job);
    } else {
        queue.add_running(id);
        catalog.insert(job, watch, false);
    }
    // Broken or gone since: told when somebody asks.
    let _ = watcher.look(id);
    if !is_queued {
        watcher.bury_if_orphaned(id);
    }
}
