//! What a job is: its id, spec, states and end, as pure data and rules.
//!
//! Nothing here reads a clock, a file or the network, and nothing here knows how a job is
//! stored or sent: `store` owns the form on disk, `service` the form on the wire.

mod confinement;
mod draft;
mod end;
mod filter;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod history;
mod id;
mod kind;
mod output_limits;
mod output_match;
mod policy;
mod spec;
mod state;
mod time;
mod view;

pub use confinement::{Account, Confinement, Resource, ResourceLimit, UMASK_DEFAULT};
pub use draft::{
    Draft, DraftLimits, SPAN_MAX, Span, Violation, any_span, check_labels, check_request_id,
    check_signal, check_stop_reason, check_variables, positive_span,
};
pub use end::{
    End, EndCause, EndState, ExitStatus, LaunchError, OutputSize, StopCause, Usage, judge,
    signal_name,
};
pub use filter::{JobFilter, Outline};
pub use id::{IdClock, JobId, JobIdError, JobIdPrefix};
pub use kind::StateKind;
pub use output_limits::{OutputLimitAction, OutputLimits, OutputLimitsDraft};
pub use output_match::{CompiledPattern, MatchStream, OutputMatch, PatternError};
pub use policy::{LABELS_MAX, Pattern, Patterns, Policy, RERUN_LABEL};
pub use spec::{Command, EnvInheritance, Secrets, Spec};
pub use state::{Claim, Event, Impossible, ProcessIdentity, Running, Started, State, transition};
pub use time::{Time, TimeError};
pub use view::{Accepted, Actor, Durability, Job, KillRecord, StopRequest, TimeoutChange};
