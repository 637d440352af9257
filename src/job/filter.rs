//! Which jobs a caller means.
//!
//! A filter knows nothing of how jobs are found; it only says whether one belongs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{JobId, StateKind, Time, view::Job};

/// Selects jobs. Every given condition must hold; an empty filter selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Exactly these; empty for no choice.
    pub job_ids: BTreeSet<JobId>,
    /// In any of these states; empty for no choice.
    pub states: BTreeSet<StateKind>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Accepted at or after this time.
    pub created_after: Option<Time>,
    /// Accepted before this time.
    pub created_before: Option<Time>,
    /// Of this principal.
    pub owner: Option<String>,
}

/// What is known of every job without its folder: all that a filter asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The state.
    pub kind: StateKind,
    /// When it was accepted.
    pub create_time: Time,
    /// Whose it is.
    pub owner: Arc<str>,
    /// The labels as they are now.
    pub labels: Arc<BTreeMap<String, String>>,
}

impl JobFilter {
    /// Selects no job at all.
    pub fn none() -> Self {
        // No id is that large, and no job was accepted before time began.
        let job_ids = BTreeSet::from([JobId::MAX]);
        Self { job_ids, created_before: Some(Time::from_nanos(0)), ..Self::default() }
    }

    /// Whether the filter selects `job` as it is now.
    pub fn matches(&self, job: &Job) -> bool {
        self.matches_as(job, job.state.kind())
    }

    /// Whether the filter selects `job` with another state than the one it has now.
    pub fn matches_as(&self, job: &Job, kind: StateKind) -> bool {
        let accepted = &job.accepted;
        let (create_time, owner) = (accepted.create_time, accepted.owner.as_str());
        self.selects(job.id(), kind, create_time, owner, &job.labels)
    }

    /// Whether the filter selects a job of which only the id is known: conditions on anything
    /// else do not hold.
    pub fn selects_unknown(&self, id: JobId) -> bool {
        let Self { job_ids, states, labels, created_after, created_before, owner } = self;
        let is_free = states.is_empty()
            && labels.is_empty()
            && created_after.is_none()
            && created_before.is_none()
            && owner.is_none();
        is_free && (job_ids.is_empty() || job_ids.contains(&id))
    }

    /// Whether the filter selects the job with this outline.
    pub fn matches_outline(&self, id: JobId, outline: &Outline) -> bool {
        let Outline { kind, create_time, owner, labels } = outline;
        self.selects(id, *kind, *create_time, owner, labels)
    }

    fn selects(
        &self,
        id: JobId,
        kind: StateKind,
        create_time: Time,
        job_owner: &str,
        job_labels: &BTreeMap<String, String>,
    ) -> bool {
        let Self { job_ids, states, labels, created_after, created_before, owner } = self;
        (job_ids.is_empty() || job_ids.contains(&id))
            && (states.is_empty() || states.contains(&kind))
            && created_after.is_none_or(|time| create_time >= time)
            && created_before.is_none_or(|time| create_time < time)
            && owner.as_ref().is_none_or(|owner| owner == job_owner)
            && labels.iter().all(|(key, value)| job_labels.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job::{
        Accepted, Confinement, Draft, DraftLimits, Durability, EnvInheritance, State,
    };

    fn job() -> Job {
        let draft = Draft {
            shell: "true".to_owned(),
            env_inheritance: Some(EnvInheritance::Minimal),
            ..Draft::default()
        };
        let (spec, _, _) =
            draft.check(&DraftLimits { stdin_bytes_max: 0, can_keep_tail: true }).unwrap();
        let accepted = Accepted {
            id: JobId::first_of(Time::from_millis(9)),
            create_time: Time::from_millis(9),
            owner: "uid:1000".to_owned(),
            request_id: None,
            digest: String::new(),
            spec,
            working_dir: "/".to_owned(),
            timeout: None,
            durability: Durability::Power,
            confinement: Confinement::default(),
        };
        Job {
            accepted: Arc::new(accepted),
            state: State::Queued,
            revision: 1,
            labels: [("team".to_owned(), "blue".to_owned())].into(),
            cancel: None,
            kills: Vec::new(),
            timeout_change: None,
        }
    }

    #[test]
    fn an_empty_filter_selects_every_job() {
        assert!(JobFilter::default().matches(&job()));
    }

    #[test]
    fn each_condition_selects_and_refuses() {
        let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let at = |millis| Some(Time::from_millis(millis));
        let all = JobFilter::default;
        let table = [
            (JobFilter { job_ids: [job().id()].into(), ..all() }, true),
            (JobFilter { job_ids: [JobId::MAX].into(), ..all() }, false),
            (JobFilter { states: [StateKind::Lost, StateKind::Queued].into(), ..all() }, true),
            (JobFilter { states: [StateKind::Running].into(), ..all() }, false),
            (JobFilter { labels: label("team", "blue"), ..all() }, true),
            (JobFilter { labels: label("team", "red"), ..all() }, false),
            (JobFilter { labels: label("crew", "blue"), ..all() }, false),
            (JobFilter { created_after: at(9), ..all() }, true),
            (JobFilter { created_after: at(10), ..all() }, false),
            (JobFilter { created_before: at(10), ..all() }, true),
            (JobFilter { created_before: at(9), ..all() }, false),
            (JobFilter { owner: Some("uid:1000".to_owned()), ..all() }, true),
            (JobFilter { owner: Some("uid:0".to_owned()), ..all() }, false),
        ];
        for (filter, selected) in table {
            assert_eq!(filter.matches(&job()), selected, "{filter:?}");
        }
    }

    #[test]
    fn all_given_conditions_must_hold() {
        let filter = JobFilter {
            job_ids: [job().id()].into(),
            states: [StateKind::Running].into(),
            ..JobFilter::default()
        };
        assert!(!filter.matches(&job()));
    }
}
