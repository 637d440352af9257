//! A job as the store tells it: what was accepted, and what became of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Confinement, Time, id::JobId, spec::Spec, state::State};

/// What survives when the power goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// An acknowledged job and a told end survive power loss.
    #[default]
    Power,
    /// They survive the death of every process, not that of the host.
    Process,
}

/// What was decided when the job was accepted. Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The id.
    pub id: JobId,
    /// When.
    pub create_time: Time,
    /// The principal that created it.
    pub owner: String,
    /// The request id of the call, if it had one.
    pub request_id: Option<String>,
    /// Tells specs apart, secrets and input included, without telling what is in them.
    pub digest: String,
    /// What to run.
    pub spec: Spec,
    /// The directory to run in: the spec's, or the server's default then.
    pub working_dir: String,
    /// The limit on the run time: the spec's, or the server's default then.
    pub timeout: Option<Duration>,
    /// What its records survive.
    pub durability: Durability,
    /// The rules of the host that it runs under.
    pub confinement: Confinement,
}

/// Who asked for something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The authenticated caller; empty for a marker dropped by hand.
    pub principal: String,
    /// Where the call came from.
    pub peer: String,
    /// The request id of the call, or empty.
    pub request_id: String,
}

/// A request to stop a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// When it was accepted.
    pub time: Time,
    /// The caller's reason.
    pub reason: String,
    /// Who asked.
    pub actor: Actor,
    /// Replaces the spec's grace period.
    pub grace_period: Option<Duration>,
}

/// One signal sent by Kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillRecord {
    /// When.
    pub time: Time,
    /// Its number.
    pub signal: i32,
    /// Who asked.
    pub actor: Actor,
    /// Whether any process got it.
    pub delivered: bool,
    /// The name of the request that it answers.
    pub request: String,
}

/// All that the folder of a job tells, but for the output itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What was accepted.
    pub accepted: Arc<Accepted>,
    /// Where it stands.
    pub state: State,
    /// Grows with every change.
    pub revision: u64,
    /// The labels now.
    pub labels: BTreeMap<String, String>,
    /// The request to cancel, if there is one.
    pub cancel: Option<StopRequest>,
    /// The last signals sent by Kill, oldest first.
    pub kills: Vec<KillRecord>,
    /// The run time limit that replaced the accepted one, with the number of the change; the
    /// limit counts from the start of the job.
    pub timeout_change: Option<TimeoutChange>,
}

/// A change of the run time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutChange {
    /// Counts the changes, from 1.
    pub number: u64,
    /// The limit, from the start of the job; `None` for none.
    pub timeout: Option<Duration>,
    /// Whether the supervisor had taken it before the old limit ran out. A change that was made
    /// while the job was queued needs no answer.
    pub answer: Option<bool>,
}

impl Job {
    /// The id.
    pub fn id(&self) -> JobId {
        self.accepted.id
    }

    /// The run time limit in force, from the start of the job.
    pub fn timeout(&self) -> Option<Duration> {
        match self.timeout_change {
            Some(TimeoutChange { answer: Some(false), .. }) | None => self.accepted.timeout,
            Some(change) => change.timeout,
        }
    }
}
