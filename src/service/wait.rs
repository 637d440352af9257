//! Wait and `WaitMany`: woken by changes, without a thread or a timer of their own running.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tonic::Request;

use super::{
    JobApi, WAITED_FOR_PER_PRINCIPAL_MAX,
    caller::{Caller, deadline},
    convert,
    intake::waiting,
    jobs::sent_bytes,
    status::{Refusal, ResumeAt},
    turns,
};
use crate::{
    api,
    catalog::{Seen, weight},
    job::{Job, JobId, Violation},
};

/// An answer sets out this long before the caller's deadline, so that it arrives.
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);
/// When to try again after too many jobs were waited for.
const WAITS_RETRY: Duration = Duration::from_secs(1);
/// The most jobs of one `WaitMany`.
const JOBS_MAX: usize = 1000;
/// The most bytes of the jobs of an answer of `WaitMany`, below what our own client takes.
const ANSWER_BYTES_MAX: usize = 63 << 20;
/// The most bytes of jobs in memory that are shown without a thread of their own.
const SHOWN_AT_ONCE_BYTES_MAX: usize = 2 << 20;

impl JobApi {
    pub(super) async fn wait(
        &self,
        caller: Caller,
        request: Request<api::WaitRequest>,
    ) -> Result<api::WaitResponse, Refusal> {
        let (deadline, _waiting) = (deadline(&request), waiting(&request)?);
        let api::WaitRequest { job_id, timeout, until } = request.into_inner();
        let timeout = convert::wait_limit("timeout", timeout)?;
        let until: api::WaitUntil = convert::choice("until", until)?;
        let id = self.resolve(&caller, &job_id).await?;
        self.seen_job(&caller, id).await?;
        let limit = self.wait_limit(timeout, deadline);
        let is_reached = move |job: &Job| match until {
            api::WaitUntil::Started => !job.state.is_waiting(),
            api::WaitUntil::Unspecified | api::WaitUntil::Terminal => job.state.is_ended(),
        };
        let (job, ended) = self.wait_for(id, limit, is_reached).await?;
        Ok(api::WaitResponse { job: Some(self.shown(&job)), ended })
    }

    /// The least of what the caller asks for, what the server allows and the call's deadline.
    pub(super) fn wait_limit(
        &self,
        asked: Option<Duration>,
        deadline: Option<Duration>,
    ) -> Instant {
        let cap = self.0.limits.wait_max;
        let limit = asked.unwrap_or(cap).min(cap);
        let deadline = deadline.map(|deadline| deadline.saturating_sub(DEADLINE_MARGIN));
        Instant::now() + deadline.map_or(limit, |deadline| limit.min(deadline))
    }

    /// Waits until a job is as wanted or the time is over; says which.
    pub(super) async fn wait_for(
        &self,
        id: JobId,
        limit: Instant,
        is_reached: impl Fn(&Job) -> bool,
    ) -> Result<(Arc<Job>, bool), Refusal> {
        let Some(mut changes) = self.catalog().subscribe(id) else {
            // It has ended, or is not there.
            let job = self.job(id).await?;
            let reached = is_reached(&job);
            return Ok((job, reached));
        };
        let wanted = changes.wait_for(|seen| match seen {
            Seen::Job(job) => is_reached(job),
            Seen::Deleted => true,
        });
        let reached = tokio::select! {
            biased;
            seen = wanted => Some(seen.map(|seen| seen.clone())),
            () = tokio::time::sleep_until(limit) => None,
            () = self.drained() => return Err(Refusal::Draining { resume_at: ResumeAt::Unknown }),
        };
        match reached {
            Some(Ok(Seen::Job(job))) => {
                if job.state.is_ended() && self.is_removed(id).await {
                    return Err(Refusal::NotFound { id: id.to_string() });
                }
                Ok((job, true))
            }
            Some(Ok(Seen::Deleted)) => Err(Refusal::NotFound { id: id.to_string() }),
            // Out of time, or the job left the index: as it is now.
            Some(Err(_)) | None => {
                let job = self.job(id).await?;
                let reached = is_reached(&job);
                Ok((job, reached))
            }
        }
    }

    pub(super) async fn wait_many(
        &self,
        caller: Caller,
        request: Request<api::WaitManyRequest>,
    ) -> Result<api::WaitManyResponse, Refusal> {
        let (deadline, _waiting) = (deadline(&request), waiting(&request)?);
        let api::WaitManyRequest { job_ids, filter, mode, timeout } = request.into_inner();
        let timeout = convert::wait_limit("timeout", timeout)?;
        let mode: api::WaitMode = convert::choice("mode", mode)?;
        let limit = self.wait_limit(timeout, deadline);
        let ids = match (job_ids.is_empty(), filter) {
            (false, None) => convert::job_ids("job_ids", &job_ids)?,
            (true, Some(filter)) => self.selected(&caller, filter).await?,
            (true, None) | (false, Some(_)) => {
                let rule = "exactly one of job_ids and filter must be given";
                return Err(Violation::new("job_ids", rule).into());
            }
        };
        let count = match mode {
            api::WaitMode::Any => 1,
            api::WaitMode::Unspecified | api::WaitMode::All => ids.len(),
        };
        let (mut open, mut bytes) = (Vec::new(), 0);
        for id in &ids {
            let job = self.seen_job(&caller, *id).await?;
            bytes += weight(&job);
            if bytes > ANSWER_BYTES_MAX {
                // Now rather than after a long wait.
                return Err(Refusal::AnswerTooLarge { limit: ANSWER_BYTES_MAX });
            }
            if !job.state.is_ended() {
                open.push(*id);
            }
        }
        let waited = self.0.waits.take_many(caller.principal(), ids.len() as u64);
        let _waited = waited.map_err(|_| Refusal::Quota {
            principal: caller.principal().to_owned(),
            setting: "jobs waited for by WaitMany",
            limit: WAITED_FOR_PER_PRINCIPAL_MAX,
            retry_after: WAITS_RETRY,
        })?;
        let missing = count.saturating_sub(ids.len() - open.len());
        let done = self.wait_for_ends(&open, missing, limit).await?;
        let jobs = self.shown_jobs(ids).await?;
        Ok(api::WaitManyResponse { jobs, done })
    }

    /// Jobs in the form of the wire: at once if they are in memory and few bytes.
    async fn shown_jobs(&self, ids: Vec<JobId>) -> Result<Vec<api::Job>, Refusal> {
        let mut bytes = 0;
        let at_hand = ids.iter().map(|id| {
            let job = self.catalog().get_in_memory(*id)?;
            bytes += weight(&job);
            (bytes <= SHOWN_AT_ONCE_BYTES_MAX).then_some(job)
        });
        if let Some(jobs) = at_hand.collect::<Option<Vec<_>>>() {
            return Ok(jobs.iter().map(|job| self.shown(job)).collect());
        }
        let shown = self.reading("reading jobs", move |api, awaited| {
            let (mut shown, mut bytes) = (Vec::with_capacity(ids.len()), 0);
            for id in ids {
                let job = api.shown(&*api.catalog().get(id)?);
                bytes += sent_bytes(&job);
                if bytes > ANSWER_BYTES_MAX || !awaited.is_true() {
                    return Ok(None);
                }
                shown.push(job);
            }
            Ok(Some(shown))
        });
        shown.await?.ok_or(Refusal::AnswerTooLarge { limit: ANSWER_BYTES_MAX })
    }

    async fn selected(
        &self,
        caller: &Caller,
        filter: api::JobFilter,
    ) -> Result<Vec<JobId>, Refusal> {
        let filter = caller.narrow(convert::filter(filter)?);
        let candidates = self.blocking("selecting jobs", move |operations| {
            Ok(operations.catalog().page(&filter, None, JOBS_MAX)?)
        });
        let candidates = candidates.await?;
        if candidates.has_more {
            let rule = format!("selects more than {JOBS_MAX} jobs; narrow it");
            return Err(Violation::new("filter", rule).into());
        }
        Ok(candidates.ids)
    }

    /// Whether `wanted` of the jobs have ended by `limit`.
    async fn wait_for_ends(
        &self,
        ids: &[JobId],
        wanted: usize,
        limit: Instant,
    ) -> Result<bool, Refusal> {
        let mut open = JoinSet::new();
        for id in ids {
            let (api, id) = (self.clone(), *id);
            let ended = async move { api.wait_for(id, limit, |job| job.state.is_ended()).await };
            open.spawn(turns::shared(ended));
        }
        let mut ended = 0;
        while ended < wanted {
            match open.join_next().await {
                Some(Ok(seen)) => ended += usize::from(seen?.1),
                Some(Err(_)) => return Err(Refusal::Internal { doing: "waiting for jobs" }),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
