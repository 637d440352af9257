//! The proto and our own types, turned into each other field by field.
//!
//! Each message is taken apart by name, so that a new field of the proto does not compile until
//! somebody has decided about it. Nothing here looks at the store.

mod choice;
mod reply;
mod request;
mod spec;

pub use self::{
    choice::{Choice, choice, choices},
    reply::{OutputFacts, StreamFacts, duration, job, job_state, timestamp},
    request::{
        duration_in, filter, heartbeat_interval, job_id, job_id_prefix, job_ids, stop_grace_period,
        time, wait_limit,
    },
    spec::draft,
};
