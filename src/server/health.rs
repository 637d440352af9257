//! Health that is true: the store can be written and the launcher lives.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{api, launch::Launch, store::Store};

/// How often the parts are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Reports the health of the service until it drains, and then that it no longer serves.
pub(super) async fn watch(
    reporter: HealthReporter,
    store: Arc<Store>,
    launch: Arc<Launch>,
    drain: watch::Receiver<bool>,
) {
    loop {
        look(&reporter, &store, &launch).await;
        tokio::select! {
            () = tokio::time::sleep(CHECK_EVERY) => {}
            () = super::drained(drain.clone()) => {
                report(&reporter, false).await;
                // It stays so until the service is gone.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Looks at the parts once and reports what was found.
pub(super) async fn look(reporter: &HealthReporter, store: &Arc<Store>, launch: &Arc<Launch>) {
    let is_healthy = check(store, launch).await;
    report(reporter, is_healthy).await;
}

async fn check(store: &Arc<Store>, launch: &Arc<Launch>) -> bool {
    let (store, launch) = (Arc::clone(store), Arc::clone(launch));
    let checked = tokio::task::spawn_blocking(move || {
        let is_alive = launch.is_alive();
        if !is_alive {
            tracing::warn!("the launcher is not alive");
        }
        let written = store.check_writable();
        if let Err(error) = &written {
            tracing::warn!(%error, "the store cannot be written");
        }
        is_alive && written.is_ok()
    });
    checked.await.unwrap_or(false)
}

async fn report(reporter: &HealthReporter, is_healthy: bool) {
    let status = if is_healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    let service = api::job_service_server::SERVICE_NAME;
    for name in ["", service] {
        reporter.set_service_status(name, status).await;
    }
}
