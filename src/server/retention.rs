//! Deleting ended jobs when their time is over, at a rate that leaves the disk to the jobs.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    access::Entry,
    job::{Actor, Time},
    operations::Operations,
    sys::clock,
};

const CHECK_EVERY: Duration = Duration::from_millis(500);
/// The most jobs that are deleted at each check: after mass deletes ext4 makes files slowly.
const DELETED_AT_ONCE: usize = 100;

/// Deletes jobs whose time is over until the service drains.
pub(super) async fn run(operations: Arc<Operations>, drain: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK_EVERY) => {}
            () = super::drained(drain.clone()) => return,
        }
        let operations = Arc::clone(&operations);
        let deleting = tokio::task::spawn_blocking(move || {
            let now = Time::from(clock::now());
            for id in operations.catalog().take_expired(now, DELETED_AT_ONCE) {
                let actor = Actor { principal: "retention".to_owned(), ..Actor::default() };
                match operations.delete(id, false, actor) {
                    Ok(()) => {
                        let job = id.to_string();
                        let entry = Entry::local("retention", "service", "Delete", &job, "ok");
                        operations.audit().record(entry);
                        tracing::info!(job = %id, "job deleted: its time is over");
                    }
                    Err(error) => tracing::warn!(job = %id, %error, "a job cannot be deleted"),
                }
            }
        });
        // A panic of it is in the log; the next round goes on.
        let _ = deleting.await;
    }
}
