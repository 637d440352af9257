//! Kill, Cancel, Delete, `UpdateLabels`, `UpdateTimeout`: jobs acted upon.

use tonic::Request;

use super::{JobApi, caller::Caller, convert, intake::Held, named_job, status::Refusal};
use crate::{
    api,
    api::update_timeout_request::Change,
    job::{StopRequest, Time, Violation, check_signal, check_stop_reason, positive_span},
    operations::{OperationError, Operations, TimeoutWish},
    store::KillScope,
    sys::clock,
};

/// The signal that Kill sends if the request names none: SIGTERM.
const SIGNAL_DEFAULT: i32 = 15;

impl JobApi {
    /// Runs what changes something. Its answer will have to be given, so it does not begin while its
    /// caller leaves too many unread; and it looks when its turn has come, not when it asks for it.
    pub(super) async fn changing<T: Send + 'static>(
        &self,
        caller: &Caller,
        doing: &'static str,
        work: impl FnOnce(&Operations) -> Result<T, OperationError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let caller = caller.clone();
        let work = move |operations: &Operations| match caller.check_unread() {
            Ok(()) => work(operations).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        };
        self.blocking(doing, work).await?
    }

    pub(super) async fn kill(
        &self,
        caller: Caller,
        request: Request<api::KillRequest>,
    ) -> Result<api::KillResponse, Refusal> {
        let actor = caller.actor("");
        let api::KillRequest { job_id, signal, scope } = request.into_inner();
        let id = named_job(&job_id)?;
        self.may_touch(&caller, id).await?;
        let signal = check_signal("signal", signal, SIGNAL_DEFAULT)?;
        let scope = match convert::choice("scope", scope)? {
            api::KillScope::Leader => KillScope::Leader,
            api::KillScope::Unspecified | api::KillScope::Tree => KillScope::Tree,
        };
        caller.note(format!("signal {signal}"));
        let (job, delivered) = self
            .changing(&caller, "sending a signal", move |operations| {
                operations.kill(id, signal, scope, actor)
            })
            .await?;
        tracing::info!(job = %id, signal, delivered, "signal sent");
        Ok(api::KillResponse { job: Some(self.shown(&job)), delivered })
    }

    pub(super) async fn cancel(
        &self,
        caller: Caller,
        request: Request<api::CancelRequest>,
    ) -> Result<api::CancelResponse, Refusal> {
        let actor = caller.actor("");
        let api::CancelRequest { job_id, reason, grace_period } = request.into_inner();
        let id = named_job(&job_id)?;
        self.may_touch(&caller, id).await?;
        if let Some(violation) = check_stop_reason("reason", &reason) {
            return Err(violation.into());
        }
        let grace_period = convert::stop_grace_period("grace_period", grace_period)?;
        caller.note(&reason);
        let time = Time::from(clock::now());
        let stop = StopRequest { time, reason, actor, grace_period };
        let job = self
            .changing(&caller, "cancelling a job", move |operations| operations.cancel(id, &stop))
            .await?;
        tracing::info!(job = %id, "cancel accepted");
        Ok(api::CancelResponse { job: Some(self.shown(&job)) })
    }

    pub(super) async fn delete(
        &self,
        caller: Caller,
        request: Request<api::DeleteRequest>,
    ) -> Result<api::DeleteResponse, Refusal> {
        let actor = caller.actor("");
        let api::DeleteRequest { job_id, force, allow_missing } = request.into_inner();
        let id = named_job(&job_id)?;
        match self.may_touch(&caller, id).await {
            Err(Refusal::NotFound { .. }) if allow_missing => return Ok(api::DeleteResponse {}),
            touched => touched?,
        }
        if force {
            caller.note("force");
        }
        self.changing(&caller, "deleting a job", move |operations| {
            match operations.delete(id, force, actor) {
                Err(OperationError::Store(error)) if allow_missing && error.is_missing() => Ok(()),
                deleted => deleted,
            }
        })
        .await?;
        tracing::info!(job = %id, "job deleted");
        Ok(api::DeleteResponse {})
    }

    pub(super) async fn update_labels(
        &self,
        caller: Caller,
        request: Request<api::UpdateLabelsRequest>,
    ) -> Result<api::UpdateLabelsResponse, Refusal> {
        let held = Held::of(&request);
        let api::UpdateLabelsRequest { job_id, set, remove } = request.into_inner();
        let id = named_job(&job_id)?;
        self.may_touch(&caller, id).await?;
        let set = set.into_iter().collect();
        let job = self
            .changing(&caller, "changing labels", move |operations| {
                let _held = held;
                operations.update_labels(id, &set, &remove)
            })
            .await?;
        Ok(api::UpdateLabelsResponse { job: Some(self.shown(&job)) })
    }

    pub(super) async fn update_timeout(
        &self,
        caller: Caller,
        request: Request<api::UpdateTimeoutRequest>,
    ) -> Result<api::UpdateTimeoutResponse, Refusal> {
        let api::UpdateTimeoutRequest { job_id, change } = request.into_inner();
        let id = named_job(&job_id)?;
        self.may_touch(&caller, id).await?;
        let wish = match change {
            Some(Change::Timeout(timeout)) => {
                let span = convert::duration_in("timeout", timeout, &positive_span())?;
                TimeoutWish::FromNow(span)
            }
            Some(Change::Clear(true)) => TimeoutWish::Clear,
            Some(Change::Clear(false)) => {
                return Err(Violation::new("clear", "must be true, or timeout be given").into());
            }
            None => {
                return Err(Violation::new("timeout", "is required, or clear").into());
            }
        };
        let job = self
            .changing(&caller, "changing a time limit", move |operations| {
                operations.update_timeout(id, wish)
            })
            .await?;
        Ok(api::UpdateTimeoutResponse { job: Some(self.shown(&job)) })
    }
}
