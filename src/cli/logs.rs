//! `jobwarden logs`: prints the output of a job.

use std::time::SystemTime;

use clap::{Args, ValueEnum};

use crate::api::{LogEndReason, LogStream, TailLogRequest, tail_log_request::Start};

use super::{
    Context, Outcome,
    failure::{DONE, Failure, NO_SUCH_JOB},
    follow, parse,
};

const EXAMPLES: &str = "\
Examples:
  jobwarden logs 01jc                  all of its output so far
  jobwarden logs -f 01jc               that, and what comes until it ends
  jobwarden logs -n 20 01jc            the last 20 lines of each stream
  jobwarden logs --stream stderr --since 5m 01jc

What the job wrote to standard error goes to standard error.";

/// The arguments of `logs`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogsCommand {
    /// The id of the job or its beginning
    job: String,
    /// Go on until the job ends
    #[arg(short, long)]
    follow: bool,
    /// Begin this many lines before the end of each stream
    #[arg(short = 'n', long, value_name = "N", group = "start")]
    lines: Option<u64>,
    /// Begin this many bytes before the end of each stream
    #[arg(long, value_name = "N", group = "start")]
    bytes: Option<u64>,
    /// Begin at this time, or this long ago
    #[arg(long, value_parser = parse::time, value_name = "TIME", group = "start")]
    since: Option<SystemTime>,
    /// Print one stream only
    #[arg(long, value_name = "STREAM")]
    stream: Option<StreamName>,
    /// Print the output of this attempt [default: the latest]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

/// One of the two streams.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StreamName {
    Stdout,
    Stderr,
}

pub(super) async fn run(context: &Context, command: LogsCommand) -> Outcome {
    let json = context.printer.json;
    let LogsCommand { job, follow, lines, bytes, since, stream, attempt } = command;
    let start = match (lines, bytes, since) {
        (Some(lines), _, _) => Some(Start::LastLines(lines)),
        (None, Some(bytes), _) => Some(Start::LastBytes(bytes)),
        (None, None, Some(since)) => Some(Start::SinceTime(since.into())),
        (None, None, None) => None,
    };
    let stream = stream.map(|name| match name {
        StreamName::Stdout => LogStream::Stdout,
        StreamName::Stderr => LogStream::Stderr,
    });
    let client = context.connect().await?;
    let mut log = client.follow_log(TailLogRequest {
        job_id: job.clone(),
        streams: stream.into_iter().map(i32::from).collect(),
        start,
        follow,
        encoding: follow::encoding(json).into(),
        attempt: attempt.unwrap_or_default(),
        ..TailLogRequest::default()
    });
    let end = follow::show(&mut log, json).await?;
    match end.reason() {
        LogEndReason::Deleted => Err(Failure::new(NO_SUCH_JOB, format!("job {job} was deleted"))),
        LogEndReason::Snapshot
        | LogEndReason::Terminal
        | LogEndReason::Limit
        | LogEndReason::Unspecified => Ok(DONE),
    }
}
