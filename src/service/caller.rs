//! Who calls, how far it may reach, and how long it waits.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tonic::Request;

use super::{JobApi, Reader, status::Refusal};
use crate::{
    access::{Audit, Call, Entry, Identity, Peer, Place, Reach},
    job::{Actor, Job, JobFilter, JobId},
    operations::Asked,
};

/// The caller of one RPC, which may make it.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    identity: Identity,
    place: Place,
    call: Call,
    /// Of the answer. None where answers are not counted.
    reader: Option<Reader>,
    notes: Arc<Notes>,
}

/// What a call says of itself for the audit record.
#[derive(Debug, Default)]
pub(super) struct Notes {
    is_recorded: AtomicBool,
    job: OnceLock<String>,
    detail: OnceLock<String>,
}

impl Caller {
    /// The caller of a request, as it was let in.
    pub(super) fn of<T>(request: &Request<T>, call: Call) -> Result<Self, Refusal> {
        let extensions = request.extensions();
        let (Some(identity), Some(peer)) = (extensions.get::<Identity>(), extensions.get::<Peer>())
        else {
            // No call comes here past the gate.
            return Err(Refusal::Internal { doing: "looking who calls" });
        };
        let (identity, place) = (identity.clone(), peer.place.clone());
        let reader = extensions.get().cloned();
        Ok(Self { identity, place, call, reader, notes: Arc::default() })
    }

    /// Refuses a caller that leaves too many answers unread.
    pub(super) fn check_unread(&self) -> Result<(), Refusal> {
        self.reader.as_ref().map_or(Ok(()), Reader::check)
    }

    /// Refuses a caller whose role does not reach to the call.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        match self.identity.role.reach(self.call) {
            Reach::Nothing => Err(Refusal::RoleRequired {
                principal: self.identity.principal.clone(),
                role: self.identity.role,
                call: self.call,
            }),
            Reach::Own | Reach::All => Ok(()),
        }
    }

    /// Notes which job the call is about, where the request does not say.
    pub(super) fn note_job(&self, id: JobId) {
        let _ = self.notes.job.set(id.to_string());
    }

    /// Notes what the caller wants of the job, or why.
    pub(super) fn note(&self, detail: impl Into<String>) {
        let _ = self.notes.detail.set(detail.into());
    }

    /// Records the call, which named `job`, in the audit record, once. Blocks on the disk.
    pub(super) fn record(&self, audit: &Audit, job: &str, outcome: &'static str) {
        let Notes { is_recorded, job: noted, detail } = &*self.notes;
        if is_recorded.swap(true, Ordering::Relaxed) {
            return;
        }
        let job = noted.get().map_or(job, String::as_str);
        let detail = detail.get().map_or("", String::as_str);
        let call = self.call.name();
        audit.record(Entry::known(&self.identity, &self.place, call, job, outcome, detail));
    }

    /// Who calls.
    pub(super) fn principal(&self) -> &str {
        &self.identity.principal
    }

    /// Whether jobs of others exist for the caller.
    pub(super) fn sees_all(&self) -> bool {
        self.identity.role.reach(Call::Status) == Reach::All
    }

    /// Whether a job exists for the caller.
    pub(super) fn sees(&self, job: &Job) -> bool {
        self.sees_all() || self.owns(job)
    }

    fn owns(&self, job: &Job) -> bool {
        job.accepted.owner == self.identity.principal
    }

    /// A filter that selects nothing that does not exist for the caller.
    pub(super) fn narrow(&self, filter: JobFilter) -> JobFilter {
        if self.sees_all() {
            return filter;
        }
        let principal = self.identity.principal.clone();
        match &filter.owner {
            Some(owner) if *owner != principal => JobFilter::none(),
            Some(_) | None => JobFilter { owner: Some(principal), ..filter },
        }
    }

    /// The caller as it is recorded with what it asks for.
    pub(super) fn actor(&self, request_id: &str) -> Actor {
        Actor {
            principal: self.identity.principal.clone(),
            peer: self.place.to_string(),
            request_id: request_id.to_owned(),
        }
    }

    /// The caller as the owner of what it submits.
    pub(super) fn asked(&self, request_id: String) -> Asked {
        let request_id = Some(request_id).filter(|id| !id.is_empty());
        Asked { owner: self.identity.principal.clone(), request_id }
    }
}

impl JobApi {
    /// A job that exists for the caller.
    pub(super) async fn seen_job(&self, caller: &Caller, id: JobId) -> Result<Arc<Job>, Refusal> {
        match self.job(id).await {
            Ok(job) if caller.sees(&job) => Ok(job),
            // Whose a job is that cannot be read nobody knows: it exists for those who see all.
            Err(refusal) if caller.sees_all() => Err(refusal),
            Ok(_) | Err(_) => Err(Refusal::NotFound { id: id.to_string() }),
        }
    }

    /// Whether the call of the caller may be about this job. A job that is not there is for the
    /// call itself to find out.
    pub(super) async fn may_touch(&self, caller: &Caller, id: JobId) -> Result<(), Refusal> {
        if caller.identity.role.reach(caller.call) == Reach::All {
            return Ok(());
        }
        let job = self.seen_job(caller, id).await?;
        if caller.owns(&job) {
            return Ok(());
        }
        Err(Refusal::NotOwner { id, call: caller.call })
    }
}

/// How long the caller waits for the answer, if it says so: the header `grpc-timeout`.
///
/// The library drops a handler at that moment and answers CANCELLED, so a handler that wants to
/// answer must know it.
pub(super) fn deadline<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_of_a_call_is_read_in_every_unit() {
        let of = |text: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", text.parse().unwrap());
            deadline(&request)
        };
        assert_eq!(of("2H"), Some(Duration::from_hours(2)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(of("7"), None);
        assert_eq!(of("m"), None);
        assert_eq!(deadline(&Request::new(())), None);
    }
}
