//! `jobwarden status`: everything about a job; and how jobs look to people.

use std::time::{Duration, SystemTime};

use clap::Args;
use prost_types::Timestamp;

use crate::api::{EndCause, Job, JobSpec, JobState, StatusRequest};

use super::{
    Context, Outcome, end,
    failure::{DONE, Failure},
    output::{self, Cell, Colour, Printer},
    signals,
};

const EXAMPLES: &str = "\
Examples:
  jobwarden status 01jc                the job whose id begins so
  jobwarden status --json ID | jq .exitStatus";

/// The arguments of `status`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct StatusCommand {
    /// The ids of the jobs or their beginnings
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(super) async fn run(context: &Context, command: StatusCommand) -> Outcome {
    let client = context.connect().await?;
    for (place, job_id) in command.jobs.into_iter().enumerate() {
        let reply = client.status(StatusRequest { job_id: job_id.clone() }).await;
        let reply = reply.map_err(|error| Failure::from(error).about(&job_id))?;
        let job = reply.job.unwrap_or_default();
        if context.printer.json {
            context.printer.object("Job", &job)?;
            continue;
        }
        if place > 0 {
            output::line("")?;
        }
        context.printer.table(&rows(&job))?;
    }
    Ok(DONE)
}

/// The outcome of a command that changed `job`: JSON if asked for, else `line`.
pub(super) fn changed(printer: Printer, job: Option<Job>, line: &str) -> Result<(), Failure> {
    if printer.json {
        return printer.object("Job", &job.unwrap_or_default());
    }
    output::line(&output::escaped(line))
}

/// The name of a state for people.
pub(super) fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "?",
        JobState::Queued => "queued",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::TimedOut => "timed out",
        JobState::Lost => "lost",
    }
}

/// The colour of a state.
pub(super) fn state_colour(state: JobState) -> Colour {
    match state {
        JobState::Unspecified => Colour::Plain,
        JobState::Queued => Colour::Dim,
        JobState::Running => Colour::Blue,
        JobState::Succeeded => Colour::Green,
        JobState::Failed | JobState::Lost => Colour::Red,
        JobState::Cancelled | JobState::TimedOut => Colour::Yellow,
    }
}

/// The command of a job as one could type it.
pub(super) fn command_line(spec: &JobSpec) -> String {
    if spec.argv.is_empty() {
        return format!("sh -c {}", quoted(&spec.shell));
    }
    let words: Vec<String> = spec.argv.iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A time as a value of the system; nothing for one that is out of its range.
pub(super) fn system_time(time: Option<&Timestamp>) -> Option<SystemTime> {
    SystemTime::try_from(*time?).ok()
}

/// How long a job ran, or has been running, or nothing.
pub(super) fn run_time(job: &Job) -> Option<Duration> {
    let start = system_time(job.start_time.as_ref())?;
    let end = system_time(job.end_time.as_ref()).unwrap_or_else(SystemTime::now);
    Some(end.duration_since(start).unwrap_or_default())
}

/// A span in two units at most: `0.25s`, `12.3s`, `4m05s`, `3h20m`, `2d04h`.
pub(super) fn short_span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{:.2}s", span.as_secs_f64()),
        1..60 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn rows(job: &Job) -> Vec<Vec<Cell>> {
    let spec = job.spec.clone().unwrap_or_default();
    let mut rows = vec![vec![Cell::plain("job"), Cell::new(&job.job_id, Colour::Bold)]];
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            rows.push(vec![Cell::plain(name), Cell::plain(value)]);
        }
    };
    row("name", spec.display_name.clone());
    row("command", command_line(&spec));
    row("directory", spec.working_dir.clone());
    row("owner", job.owner.clone());
    row("labels", labels(job));
    row("created", time(job.create_time.as_ref()));
    row("started", time(job.start_time.as_ref()));
    row("ended", time(job.end_time.as_ref()));
    row("run time", run_time(job).map(short_span).unwrap_or_default());
    row("process", if job.pid == 0 { String::new() } else { job.pid.to_string() });
    row("attempt", if job.attempt > 1 { job.attempt.to_string() } else { String::new() });
    row("exit", end::exit_word(job));
    row("cause", cause(job));
    row("message", job.message.clone());
    row("launch", launch_error(job));
    row("cancel", cancel(job));
    for kill in &job.kills {
        row("kill", format!("{} {}", time(kill.time.as_ref()), signals::name(kill.signal)));
    }
    for (name, info) in [("stdout", &job.stdout), ("stderr", &job.stderr)] {
        row(name, info.as_ref().map(output_line).unwrap_or_default());
    }
    row("usage", usage(job));
    let state = Cell::new(state_name(job.state()), state_colour(job.state()));
    rows.insert(1, vec![Cell::plain("state"), state]);
    rows
}

fn output_line(info: &crate::api::OutputInfo) -> String {
    let mut line = format!("{} bytes", info.size_bytes);
    if info.dropped_bytes > 0 {
        line = format!("{line}, {} of them not kept", info.dropped_bytes);
    }
    if !info.complete {
        line.push_str(" so far");
    }
    if info.size_bytes > 0 && !info.path.is_empty() {
        line = format!("{line} in {}", info.path);
    }
    line
}

fn cause(job: &Job) -> String {
    match job.cause() {
        EndCause::Unspecified => String::new(),
        cause => {
            let name = cause.as_str_name();
            name.strip_prefix("END_CAUSE_").unwrap_or(name).to_lowercase().replace('_', " ")
        }
    }
}

fn launch_error(job: &Job) -> String {
    let Some(error) = &job.launch_error else {
        return String::new();
    };
    format!("{} at {}", error.errno_name, error.stage)
}

fn cancel(job: &Job) -> String {
    let Some(cancel) = &job.cancel else {
        return String::new();
    };
    let who = cancel.actor.as_ref().map(|actor| actor.principal.as_str()).unwrap_or_default();
    let mut line = time(cancel.time.as_ref());
    for (word, value) in [("by", who), ("because", cancel.reason.as_str())] {
        if !value.is_empty() {
            line = format!("{line} {word} {value}");
        }
    }
    line
}

fn usage(job: &Job) -> String {
    let Some(usage) = &job.usage else {
        return String::new();
    };
    let span = |span: Option<&prost_types::Duration>| {
        span.and_then(|span| Duration::try_from(*span).ok()).unwrap_or_default()
    };
    format!(
        "{} user, {} system, {} KiB resident at most",
        short_span(span(usage.user_time.as_ref())),
        short_span(span(usage.system_time.as_ref())),
        usage.max_rss_bytes / 1024
    )
}

fn labels(job: &Job) -> String {
    let mut pairs: Vec<String> =
        job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.sort();
    pairs.join(" ")
}

fn time(time: Option<&Timestamp>) -> String {
    let time = system_time(time).filter(|time| *time >= SystemTime::UNIX_EPOCH);
    time.map(|time| humantime::format_rfc3339_millis(time).to_string()).unwrap_or_default()
}

/// One word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain =
        |character: char| character.is_alphanumeric() || "_-./=:,@%+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_could_type_it() {
        let argv = ["echo", "it's", "", "a=b"].map(str::to_owned).to_vec();
        let spec = JobSpec { argv, ..Default::default() };
        assert_eq!(command_line(&spec), r"echo 'it'\''s' '' a=b");
        let spec = JobSpec { shell: "ls | wc".to_owned(), ..Default::default() };
        assert_eq!(command_line(&spec), "sh -c 'ls | wc'");
    }

    #[test]
    fn a_span_takes_two_units_at_most() {
        let short = |millis| short_span(Duration::from_millis(millis));
        assert_eq!((short(250), short(12_340)), ("0.25s".to_owned(), "12.3s".to_owned()));
        assert_eq!(short(245_000), "4m05s");
        assert_eq!(short(12_000_000), "3h20m");
        assert_eq!(short(187_200_000), "2d04h");
    }

    #[test]
    fn a_time_that_nobody_can_show_is_left_out() {
        assert_eq!(time(Some(&Timestamp { seconds: i64::MIN, nanos: 0 })), "");
        assert_eq!(time(Some(&Timestamp { seconds: -1, nanos: 0 })), "");
        assert_eq!(time(Some(&Timestamp { seconds: 1, nanos: 0 })), "1970-01-01T00:00:01.000Z");
    }
}
