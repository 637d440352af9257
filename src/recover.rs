//! At the start of a service: what an earlier one left, who lives, who is gone.
//!
//! Only jobs that were active are read before the service answers; what has ended waits.
//! Everything that happened while nobody told of it is told now.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    catalog::Catalog,
    job::JobId,
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
pub fn recover(catalog: &Arc<Catalog>, watcher: &Watcher) -> Result<Recovered, StoreError> {
    let store = catalog.store();
    let mut recovered = Recovered::default();
    tell_vanished(catalog);
    finish_removals(catalog)?;
    if let Err(error) = store.forget_all_dropped_secrets() {
        tracing::warn!(%error, "secrets may be left in the inbox");
    }
    let marked: BTreeSet<JobId> = store.active_ids()?.into_iter().collect();
    let told_active: BTreeSet<JobId> = catalog.told_active().into_iter().collect();
    for id in possibly_active(catalog, &marked)? {
        match store.job_dir(id).read() {
            Ok(job) if job.state.is_ended() => {
                recovered.ended += 1;
                if !job.accepted.spec.secret_keys.is_empty() {
                    // Removed before the end was recorded, but a power cut may bring it back.
                    store.job_dir(id).remove_secrets()?;
                }
                // After a boot of the host every job comes by here; List reads those it needs.
                let has_news = marked.contains(&id) || told_active.contains(&id);
                if has_news && catalog.tell_ended(job) {
                    store.unmark_active(id);
                }
            }
            Ok(job) => {
                if job.state.is_waiting() {
                    recovered.queued += 1;
                } else {
                    recovered.running += 1;
                }
                catalog.assume_known(&job);
                watcher.take_up(job);
            }
            Err(StoreError::Missing(_)) => {
                catalog.tell_removed(id, None);
                store.unmark_active(id);
            }
            // Nobody was told of it: its caller got no answer and asks again.
            Err(_) if store.is_unfinished(id) => {
                store.hide(id, false)?;
                store.dispose(id, None);
            }
            Err(error) => catalog.note_unreadable(id, &error),
        }
    }
    store.note_boot()?;
    Ok(recovered)
}

/// Tells of jobs that ended lately and whose folders others have removed since. Of older ones
/// nobody knows any more that they were there.
fn tell_vanished(catalog: &Catalog) {
    for id in catalog.ended_lately() {
        let is_hidden = catalog.store().is_hidden(id);
        if !is_hidden && !catalog.store().job_dir(id).path().exists() {
            catalog.tell_vanished(id);
        }
    }
}

/// Removes what an earlier service had hidden and not yet removed, and tells of it.
fn finish_removals(catalog: &Catalog) -> Result<(), StoreError> {
    let store = catalog.store();
    for dir in store.hidden()? {
        let Some(id) = dir.id() else { continue };
        let job = dir.read().ok();
        let accepted = job.as_ref().map(|job| Arc::clone(&job.accepted));
        catalog.tell_removed(id, job);
        store.dispose(id, accepted.as_deref());
    }
    Ok(())
}

/// The marked jobs and those whose end has not been told; after a boot of the host, which may
/// have lost marks, all jobs.
fn possibly_active(
    catalog: &Catalog,
    marked: &BTreeSet<JobId>,
) -> Result<BTreeSet<JobId>, StoreError> {
    let store: &Store = catalog.store();
    let mut ids = marked.clone();
    ids.extend(catalog.told_active());
    if store.is_first_since_boot()? {
        for day in store.days()? {
            ids.extend(store.ids_of_day(&day)?);
        }
    }
    Ok(ids)
}
