//! Accepting jobs: checked, deduplicated, durable, queued; and running an old spec again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    job::{
        Accepted, Draft, DraftLimits, Job, JobId, RERUN_LABEL, Secrets, Spec, Violation,
        check_request_id, check_variables,
    },
    queue::Full,
    store::{StoreError, Submission},
    sys::clock,
};

use super::{OperationError, Operations, one_at_a_time};

/// When to try again after the share of the queue was full.
const SHARE_RETRY: Duration = Duration::from_secs(1);

/// Who asks, and by which request id.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The principal.
    pub owner: String,
    /// The request id, if there is one.
    pub request_id: Option<String>,
}

/// An accepted job.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The job.
    pub job: Arc<Job>,
    /// Whether an earlier call had submitted it.
    pub deduplicated: bool,
}

/// What is about to be accepted.
struct Checked {
    spec: Spec,
    secrets: Secrets,
    stdin: Vec<u8>,
}

impl Operations {
    /// Accepts the job that a draft describes. When this returns, the job is durable.
    pub fn submit(&self, draft: Draft, asked: &Asked) -> Result<Submitted, OperationError> {
        let limits = DraftLimits {
            stdin_bytes_max: self.defaults.stdin_bytes_max,
            can_keep_tail: self.catalog.store().can_make_holes(),
        };
        let mut violations = Vec::new();
        violations
            .extend(asked.request_id.as_ref().and_then(|id| check_request_id("request_id", id)));
        let checked = match draft.check(&limits) {
            Ok((spec, secrets, stdin)) => Checked { spec, secrets, stdin },
            Err(found) => {
                violations.extend(found);
                return Err(OperationError::Invalid(violations));
            }
        };
        if !violations.is_empty() {
            return Err(OperationError::Invalid(violations));
        }
        self.accept(checked, asked)
    }

    /// Accepts a new job with the spec of an old one. Its secrets must be given again.
    pub fn rerun(
        &self,
        id: JobId,
        secret_env: BTreeMap<String, String>,
        asked: &Asked,
    ) -> Result<Submitted, OperationError> {
        if let Some(violation) =
            asked.request_id.as_ref().and_then(|id| check_request_id("request_id", id))
        {
            return Err(OperationError::Invalid(vec![violation]));
        }
        let old = self.catalog.get(id)?;
        let mut spec = old.accepted.spec.clone();
        let is_given = |key: &String| secret_env.contains_key(key);
        let missing: Vec<_> =
            spec.secret_keys.iter().filter(|key| !is_given(key)).cloned().collect();
        if !missing.is_empty() {
            return Err(OperationError::MissingSecrets { id, keys: missing });
        }
        let mut violations = check_variables("secret_env", &secret_env);
        for key in secret_env.keys().filter(|key| !spec.secret_keys.contains(key)) {
            let rule = "names no secret of the spec; leave it out";
            violations.push(Violation::new(format!("secret_env[{key:?}]"), rule));
        }
        if !violations.is_empty() {
            return Err(OperationError::Invalid(violations));
        }
        let stdin = match spec.stdin_bytes {
            0 => Vec::new(),
            _ => self.catalog.store().job_dir(id).stdin()?,
        };
        self.defaults.policy.lower(&mut spec);
        spec.labels.insert(RERUN_LABEL.to_owned(), id.to_string());
        self.accept(Checked { spec, secrets: Secrets(secret_env), stdin }, asked)
    }

    fn accept(&self, checked: Checked, asked: &Asked) -> Result<Submitted, OperationError> {
        let store = self.catalog.store();
        let digest = store.digest(&checked.spec, &checked.secrets, &checked.stdin);
        let Some(request_id) = &asked.request_id else {
            return self.create(checked, asked, digest);
        };
        let key = (asked.owner.clone(), request_id.clone());
        one_at_a_time(&self.requests, &key, || match self.known(asked, request_id)? {
            Some((job, known)) if known == digest => Ok(Submitted { job, deduplicated: true }),
            Some((job, _)) => Err(OperationError::RequestIdReused(job.id())),
            None => self.create(checked, asked, digest),
        })
    }

    /// The job that a request id stands for, if it is still there, and its digest.
    fn known(
        &self,
        asked: &Asked,
        request_id: &str,
    ) -> Result<Option<(Arc<Job>, String)>, OperationError> {
        let Some(known) = self.catalog.store().known_request(&asked.owner, request_id)? else {
            return Ok(None);
        };
        match self.catalog.get(known.id) {
            Ok(job) => Ok(Some((job, known.digest))),
            // Deleted since, or never finished: the id is free again.
            Err(error) if error.is_missing() => Ok(None),
            Err(StoreError::Corrupt { path, .. }) if !path.ends_with("spec.json") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create(
        &self,
        mut checked: Checked,
        asked: &Asked,
        digest: String,
    ) -> Result<Submitted, OperationError> {
        if self.is_draining() {
            return Err(OperationError::Draining);
        }
        let violations = self.defaults.policy.apply(&mut checked.spec, self.defaults.timeout);
        if !violations.is_empty() {
            return Err(OperationError::Invalid(violations));
        }
        self.reserve(&asked.owner)?;
        self.create_reserved(checked, asked, digest)
            .inspect(|submitted| self.queue.add_reserved(&submitted.job))
            .inspect_err(|_| {
                self.queue.release(&asked.owner);
                self.rate.give_back(&asked.owner);
            })
    }

    /// Sets a place in the queue aside, within the share of the owner.
    fn reserve(&self, owner: &str) -> Result<(), OperationError> {
        let quota = |setting, limit, retry_after| {
            let principal = owner.to_owned();
            OperationError::Quota { principal, setting, limit, retry_after }
        };
        self.queue.reserve(owner).map_err(|full| match full {
            Full::Queue => OperationError::QueueFull,
            Full::Share => {
                let limit = self.queue.limits().queued_per_owner_max as u64;
                quota("max_queued_jobs_per_principal", limit, SHARE_RETRY)
            }
        })?;
        self.rate.take(owner, clock::since_boot()).map_err(|(limit, retry_after)| {
            self.queue.release(owner);
            quota("max_jobs_per_minute_per_principal", limit.into(), retry_after)
        })
    }

    fn create_reserved(
        &self,
        checked: Checked,
        asked: &Asked,
        digest: String,
    ) -> Result<Submitted, OperationError> {
        let Checked { spec, secrets, stdin } = checked;
        let next = self.catalog.next_id();
        let (id, create_time) =
            next.map_err(|source| OperationError::System { action: "make an id", source })?;
        let default_dir = || self.defaults.working_dir.to_string_lossy().into_owned();
        let accepted = Accepted {
            id,
            create_time,
            owner: asked.owner.clone(),
            request_id: asked.request_id.clone(),
            digest,
            working_dir: spec.working_dir.clone().unwrap_or_else(default_dir),
            timeout: spec.timeout.or(self.defaults.timeout),
            durability: self.defaults.durability,
            confinement: self.defaults.confinement.clone(),
            spec,
        };
        let submission = Submission { accepted, secrets, stdin };
        let dir = self.catalog.store().create(&submission).inspect_err(|_| {
            self.catalog.give_up(id);
        })?;
        let watch = self.watcher.watch(&dir, id);
        let job = Job::new(Arc::new(submission.accepted));
        self.catalog.insert(job.clone(), watch);
        Ok(Submitted { job: Arc::new(job), deduplicated: false })
    }
}
