//! `jobwarden watch`: what happens to jobs, as it happens.

use clap::Args;

use crate::api::{
    EventType, JobEvent, JobState, OnExpired, WatchEventsRequest, WatchEventsResponse, WatchStart,
    watch_events_response::Kind,
};

use super::{
    Context, Outcome, end,
    failure::Failure,
    list::FilterFlags,
    output::{self, Colour, Printer},
    show,
};

const EXAMPLES: &str = "\
Examples:
  jobwarden watch                      all jobs as they are, then every change
  jobwarden watch --new --label team=web
  jobwarden watch --json --token TOKEN go on where an earlier watch was (its last resumeToken)

Ends with Ctrl-C.";

/// The arguments of `watch`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct WatchCommand {
    /// Only these jobs, by their whole ids [default: all]
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    #[command(flatten)]
    filter: FilterFlags,
    /// Leave out the jobs as they are now
    #[arg(long)]
    new: bool,
    /// Go on after the message that had this token
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// If the history after the token is gone, begin anew instead of giving up
    #[arg(long, requires = "token")]
    resnapshot: bool,
    /// Tell growing output as well, with its bytes in JSON
    #[arg(long)]
    logs: bool,
}

pub(super) async fn run(context: &Context, command: WatchCommand) -> Outcome {
    let WatchCommand { jobs, filter, new, token, resnapshot, logs } = command;
    refuse_access_token(token.as_deref())?;
    let start = if new { WatchStart::Now } else { WatchStart::Snapshot };
    let on_expired = if resnapshot { OnExpired::Resnapshot } else { OnExpired::Fail };
    let client = context.connect().await?;
    let mut watch = client.watch(WatchEventsRequest {
        filter: Some(filter.filter(jobs)),
        resume_token: token.unwrap_or_default(),
        start: start.into(),
        event_types: if logs { all_types() } else { Vec::new() },
        include_log_data: logs && context.printer.json,
        heartbeat_interval: None,
        on_expired: on_expired.into(),
    });
    loop {
        let message = watch.next().await?;
        if context.printer.json {
            context.printer.object("WatchEventsResponse", &message)?;
        } else {
            print(context.printer, message)?;
        }
    }
}

/// Refuses an access token where the place of an earlier watch belongs. It is not repeated: an
/// argument is seen by every user of the machine, and what we say may be kept.
fn refuse_access_token(text: Option<&str>) -> Result<(), Failure> {
    if !text.is_some_and(|text| text.starts_with("jw_")) {
        return Ok(());
    }
    Err(Failure::usage("--token says where a watch goes on, not who you are").hint(
        "revoke this access token, which others may have seen by now, and give a new one with \
         --token-file FILE or JOBWARDEN_TOKEN",
    ))
}

fn all_types() -> Vec<i32> {
    let types = [
        EventType::Snapshot,
        EventType::Created,
        EventType::Started,
        EventType::Updated,
        EventType::Ended,
        EventType::Deleted,
        EventType::Log,
        EventType::OutputMatched,
    ];
    types.map(i32::from).to_vec()
}

fn print(printer: Printer, message: WatchEventsResponse) -> Result<(), Failure> {
    match message.kind {
        Some(Kind::Event(event)) => output::line(&event_line(printer, &event)),
        Some(Kind::Reset(reset)) => {
            output::note(&format!("history is gone, all jobs follow anew: {}", reset.reason));
            Ok(())
        }
        Some(Kind::Bookmark(_) | Kind::Heartbeat(_)) | None => Ok(()),
    }
}

fn event_line(printer: Printer, event: &JobEvent) -> String {
    let job = event.job.clone().unwrap_or_default();
    let time = show::system_time(event.time.as_ref())
        .filter(|time| *time >= std::time::SystemTime::UNIX_EPOCH)
        .map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let time = printer.painted(&time.unwrap_or_default(), Colour::Dim);
    let mut line =
        format!("{time}  {:<9}  {}", type_name(event.r#type()), output::escaped(&job.job_id));
    if job.state() != JobState::Unspecified {
        let state = show::state_name(job.state());
        line = format!("{line}  {}", printer.painted(state, show::state_colour(job.state())));
    }
    let exit = end::exit_word(&job);
    if !exit.is_empty() {
        line = format!("{line} ({exit})");
    }
    if let Some(spec) = &job.spec {
        let command = output::escaped(&show::command_line(spec));
        line = format!("{line}  {}", output::shortened(&command, 60));
    }
    if let Some(sizes) = event.log.as_ref().and_then(|log| log.sizes) {
        line = format!("{line}  {} + {} bytes", sizes.stdout, sizes.stderr);
    }
    if let Some(matched) = &event.r#match {
        line = format!("{line}  {}", output::escaped(&matched.name));
    }
    line
}

fn type_name(event_type: EventType) -> &'static str {
    match event_type {
        EventType::Unspecified => "?",
        EventType::Snapshot => "is",
        EventType::Created => "created",
        EventType::Started => "started",
        EventType::Updated => "updated",
        EventType::Ended => "ended",
        EventType::Deleted => "deleted",
        EventType::Log => "output",
        EventType::OutputMatched => "matched",
    }
}
