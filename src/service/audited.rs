//! The audit record of calls: written before anybody is told what a call came to, and also if
//! nobody waits for that any more.

use std::sync::Arc;

use super::{JobApi, caller::Caller, status::Refusal};
use crate::{
    access::{Audit, Call},
    job::JobIdPrefix,
};

/// What is recorded of a call whose caller went before it was answered: it may have been done.
const CALLER_LEFT: &str = "CALLER_LEFT";

/// A call that is to be recorded, at the latest when this is dropped.
struct Pending {
    audit: Arc<Audit>,
    /// None once it has been recorded.
    call: Option<(Caller, String)>,
}

impl Pending {
    async fn record(mut self, outcome: &'static str) {
        if let Some((caller, job)) = self.call.take() {
            let audit = Arc::clone(&self.audit);
            let record = move || caller.record(&audit, &job, outcome);
            // Only a panic ends it without having recorded, and that is in the log.
            let _ = tokio::task::spawn_blocking(record).await;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((caller, job)) = self.call.take() {
            let audit = Arc::clone(&self.audit);
            tokio::task::spawn_blocking(move || caller.record(&audit, &job, CALLER_LEFT));
        }
    }
}

impl JobApi {
    /// Does the work of a call if its caller may make it, and records what it came to.
    pub(super) async fn audited<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        caller: Caller,
        call: Call,
        job: &str,
        work: impl FnOnce(Caller) -> F,
    ) -> Result<T, Refusal> {
        let audit = &self.0.audit;
        // What is no id may be anything.
        let job = if job.parse::<JobIdPrefix>().is_ok() { job } else { "" };
        let pending = |caller: &Caller| Pending {
            audit: Arc::clone(audit),
            call: Some((caller.clone(), job.to_owned())),
        };
        if let Err(refusal) = caller.check() {
            pending(&caller).record(refusal.reason()).await;
            return Err(refusal);
        }
        if audit.wants(call.is_change()) {
            let pending = pending(&caller);
            let answer = work(caller).await;
            pending.record(answer.as_ref().map_or_else(Refusal::reason, |_| "ok")).await;
            return answer;
        }
        work(caller).await
    }
}
