//! `jobwarden delete`, `labels` and `timeout`: what can be changed about a job.

use std::time::Duration;

use clap::Args;

use crate::api::{
    DeleteRequest, UpdateLabelsRequest, UpdateTimeoutRequest, update_timeout_request::Change,
};

use super::{
    Context, Outcome,
    failure::{DONE, Failure},
    output, parse, show,
    stop::keep_first,
};

const DELETE_EXAMPLES: &str = "\
Examples:
  jobwarden delete ID                  a job that has ended
  jobwarden delete --force ID          also one that runs: it is killed first
  jobwarden list -q --state succeeded --before 7d | xargs -r jobwarden delete";

const LABELS_EXAMPLES: &str = "\
Examples:
  jobwarden labels ID --set team=web --set tier=2
  jobwarden labels ID --remove tier

Without flags it changes nothing and shows the labels.";

const TIMEOUT_EXAMPLES: &str = "\
Examples:
  jobwarden timeout ID 30m             end it 30 minutes from now
  jobwarden timeout ID none            let it run as long as it likes";

/// The arguments of `delete`.
#[derive(Args, Debug)]
#[command(after_help = DELETE_EXAMPLES)]
pub(super) struct DeleteCommand {
    /// The whole ids of the jobs
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Kill a job that has not ended
    #[arg(short, long)]
    force: bool,
    /// Do not mind if there is no such job
    #[arg(long)]
    allow_missing: bool,
}

/// The arguments of `labels`.
#[derive(Args, Debug)]
#[command(after_help = LABELS_EXAMPLES)]
pub(super) struct LabelsCommand {
    /// The whole id of the job
    job: String,
    /// Add or replace a label; may be repeated
    #[arg(short, long, value_parser = parse::pair, value_name = "KEY=VALUE")]
    set: Vec<(String, String)>,
    /// Remove a label; may be repeated
    #[arg(short, long, value_name = "KEY")]
    remove: Vec<String>,
}

/// The arguments of `timeout`.
#[derive(Args, Debug)]
#[command(after_help = TIMEOUT_EXAMPLES)]
pub(super) struct TimeoutCommand {
    /// The whole id of the job
    job: String,
    /// The new limit, from now on, or `none`
    #[arg(value_parser = limit, value_name = "DURATION")]
    limit: Limit,
}

/// A limit on the run time, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    None,
    FromNow(Duration),
}

pub(super) async fn delete(context: &Context, command: DeleteCommand) -> Outcome {
    let DeleteCommand { jobs, force, allow_missing } = command;
    let client = context.connect().await?;
    let mut first_failure = None;
    for job_id in jobs {
        let request = DeleteRequest { job_id: job_id.clone(), force, allow_missing };
        match client.delete(request).await {
            Ok(reply) if context.printer.json => {
                context.printer.object("DeleteResponse", &reply)?;
            }
            Ok(_) => output::line(&output::escaped(&format!("{job_id} is deleted")))?,
            Err(error) => keep_first(&mut first_failure, Failure::from(error).about(&job_id)),
        }
    }
    first_failure.map_or(Ok(DONE), Err)
}

pub(super) async fn labels(context: &Context, command: LabelsCommand) -> Outcome {
    let LabelsCommand { job: job_id, set, remove } = command;
    let client = context.connect().await?;
    let request = UpdateLabelsRequest { job_id, set: set.into_iter().collect(), remove };
    let job = client.update_labels(request).await?.job.unwrap_or_default();
    if context.printer.json {
        context.printer.object("Job", &job)?;
        return Ok(DONE);
    }
    let mut pairs: Vec<_> = job.labels.into_iter().collect();
    pairs.sort();
    for (key, value) in pairs {
        output::line(&output::escaped(&format!("{key}={value}")))?;
    }
    Ok(DONE)
}

pub(super) async fn timeout(context: &Context, command: TimeoutCommand) -> Outcome {
    let TimeoutCommand { job: job_id, limit } = command;
    let client = context.connect().await?;
    let (change, line) = match limit {
        Limit::None => (Change::Clear(true), format!("{job_id} has no time limit any more")),
        Limit::FromNow(limit) => {
            let span = prost_types::Duration::try_from(limit)
                .map_err(|_| Failure::usage("the time limit is too long"))?;
            let shown = humantime::format_duration(limit);
            (Change::Timeout(span), format!("{job_id} ends in {shown} at the latest"))
        }
    };
    let request = UpdateTimeoutRequest { job_id, change: Some(change) };
    let reply = client.update_timeout(request).await?;
    show::changed(context.printer, reply.job, &line)?;
    Ok(DONE)
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit::None),
        text => parse::duration(text).map(Limit::FromNow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_duration_or_none() {
        assert_eq!(limit("none"), Ok(Limit::None));
        assert_eq!(limit("90s"), Ok(Limit::FromNow(Duration::from_secs(90))));
        assert!(limit("forever").is_err());
    }
}
