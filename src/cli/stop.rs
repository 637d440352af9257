//! `jobwarden kill` and `jobwarden cancel`: two ways to stop jobs.

use std::time::Duration;

use clap::Args;

use crate::api::{CancelRequest, Job, JobState, KillRequest, KillScope};

use super::{
    Context, Outcome, end,
    failure::{DONE, Failure},
    parse, show, signals,
};

const KILL_EXAMPLES: &str = "\
Examples:
  jobwarden kill ID                    send SIGTERM to every process of the job
  jobwarden kill -s KILL ID            leave none of them behind
  jobwarden kill -s USR1 --leader ID   tell the main process something

A signal is sent once and nothing follows from it. To stop a job, cancel it.";

const CANCEL_EXAMPLES: &str = "\
Examples:
  jobwarden cancel ID                  stop it; a queued job never starts
  jobwarden cancel --grace 1m --reason 'new release' ID
  jobwarden cancel --grace 0 ID        kill at once, and record it as cancelled

Returns at once; `jobwarden wait ID` waits for the end.";

/// The arguments of `kill`.
#[derive(Args, Debug)]
#[command(after_help = KILL_EXAMPLES)]
pub(super) struct KillCommand {
    /// The whole ids of the jobs
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Send this signal, by name or number
    #[arg(short, long, value_parser = parse::signal, value_name = "SIGNAL", default_value = "TERM")]
    signal: i32,
    /// Send it to the main process only
    #[arg(long)]
    leader: bool,
}

/// The arguments of `cancel`.
#[derive(Args, Debug)]
#[command(after_help = CANCEL_EXAMPLES)]
pub(super) struct CancelCommand {
    /// The whole ids of the jobs
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Keep this reason with the job
    #[arg(short, long, value_name = "TEXT")]
    reason: Option<String>,
    /// Kill it this long after it was asked to stop [default: as its spec says]
    #[arg(short, long, value_parser = parse::duration, value_name = "DURATION")]
    grace: Option<Duration>,
}

pub(super) async fn kill(context: &Context, command: KillCommand) -> Outcome {
    let KillCommand { jobs, signal, leader } = command;
    let scope = if leader { KillScope::Leader } else { KillScope::Tree };
    let client = context.connect().await?;
    let mut first_failure = None;
    for job_id in jobs {
        let request = KillRequest { job_id: job_id.clone(), signal, scope: scope.into() };
        match client.kill(request).await {
            Ok(reply) => {
                let name = signals::name(signal);
                let state = reply.job.as_ref().map_or(JobState::Unspecified, Job::state);
                let line = if reply.delivered {
                    format!("{job_id} was sent {name}")
                } else if end::is_terminal(state) {
                    format!("{job_id} has ended already; nothing was sent")
                } else {
                    format!("no process of {job_id} took {name}")
                };
                show::changed(context.printer, reply.job, &line)?;
            }
            Err(error) => keep_first(&mut first_failure, Failure::from(error).about(&job_id)),
        }
    }
    first_failure.map_or(Ok(DONE), Err)
}

pub(super) async fn cancel(context: &Context, command: CancelCommand) -> Outcome {
    let CancelCommand { jobs, reason, grace } = command;
    let client = context.connect().await?;
    let mut first_failure = None;
    for job_id in jobs {
        let request = CancelRequest {
            job_id: job_id.clone(),
            reason: reason.clone().unwrap_or_default(),
            grace_period: parse::span(grace),
        };
        match client.cancel(request).await {
            Ok(reply) => {
                let state = reply.job.as_ref().map_or(JobState::Unspecified, Job::state);
                let line = if end::is_terminal(state) {
                    format!("{job_id} is {}", show::state_name(state))
                } else {
                    format!("{job_id} was asked to stop")
                };
                show::changed(context.printer, reply.job, &line)?;
            }
            Err(error) => keep_first(&mut first_failure, Failure::from(error).about(&job_id)),
        }
    }
    first_failure.map_or(Ok(DONE), Err)
}

/// Keeps the first failure for the end and prints any other at once, so that one job that cannot
/// be stopped does not save the others.
pub(super) fn keep_first(first: &mut Option<Failure>, failure: Failure) {
    match first {
        None => *first = Some(failure),
        Some(_) => failure.print(&mut std::io::stderr().lock()),
    }
}
