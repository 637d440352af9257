//! `jobwarden list`: jobs, newest first.

use std::time::SystemTime;

use clap::{Args, ValueEnum};

use crate::api::{Job, JobFilter, JobState, ListRequest};

use super::{
    Context, Outcome, end,
    failure::DONE,
    output::{self, Cell, Colour},
    parse, show,
};

/// The most jobs that are asked for at once, as the service allows.
const PAGE_JOBS_MAX: u32 = 1000;

/// How much of a command is shown where the width of the terminal is not known.
const COMMAND_CHARACTERS: usize = 60;

/// What the columns before the command take.
const OTHER_COLUMNS: usize = 68;

const EXAMPLES: &str = "\
Examples:
  jobwarden list                            the newest 50 jobs
  jobwarden list --state running --state queued
  jobwarden list --label team=web --since 2h --all
  jobwarden list -q --state failed | xargs -r jobwarden delete";

/// The arguments of `list`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ListCommand {
    #[command(flatten)]
    filter: FilterFlags,
    /// List at most this many jobs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: u32,
    /// List all jobs
    #[arg(short, long)]
    all: bool,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// Which jobs are meant.
#[derive(Args, Debug, Default)]
pub(super) struct FilterFlags {
    /// Only jobs in this state; may be repeated
    #[arg(long, value_name = "STATE")]
    pub(super) state: Vec<StateName>,
    /// Only jobs with this label; may be repeated
    #[arg(short, long, value_parser = parse::pair, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
    /// Only jobs of this principal, for example uid:1000
    #[arg(long, value_name = "PRINCIPAL")]
    owner: Option<String>,
    /// Only jobs accepted since this time, or since this long ago
    #[arg(long, value_parser = parse::time, value_name = "TIME")]
    since: Option<SystemTime>,
    /// Only jobs accepted before this time, or before this long ago
    #[arg(long, value_parser = parse::time, value_name = "TIME")]
    before: Option<SystemTime>,
}

/// The states by the names that people type.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StateName {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    TimedOut,
    Lost,
}

impl FilterFlags {
    /// The filter of a request, with these exact ids.
    pub(super) fn filter(self, job_ids: Vec<String>) -> JobFilter {
        let FilterFlags { state, label, owner, since, before } = self;
        JobFilter {
            job_ids,
            states: state.into_iter().map(|name| state_of(name).into()).collect(),
            labels: label.into_iter().collect(),
            created_after: since.map(Into::into),
            created_before: before.map(Into::into),
            owner: owner.unwrap_or_default(),
        }
    }
}

pub(super) async fn run(context: &Context, command: ListCommand) -> Outcome {
    let ListCommand { filter, limit, all, quiet } = command;
    let printer = context.printer;
    let client = context.connect().await?;
    let filter = filter.filter(Vec::new());
    let mut left = if all { u32::MAX } else { limit };
    let mut page_token = String::new();
    let mut is_first = true;
    while left > 0 {
        let page_size = left.min(PAGE_JOBS_MAX);
        let request = ListRequest {
            page_size: i32::try_from(page_size).unwrap_or(i32::MAX),
            page_token,
            filter: Some(filter.clone()),
        };
        let reply = client.list(request).await?;
        left = left.saturating_sub(u32::try_from(reply.jobs.len()).unwrap_or(u32::MAX));
        if printer.json {
            reply.jobs.iter().try_for_each(|job| printer.object("Job", job))?;
        } else if quiet {
            reply.jobs.iter().try_for_each(|job| output::line(&output::escaped(&job.job_id)))?;
        } else {
            let heading = is_first.then(heading);
            let rows = reply.jobs.iter().map(row);
            printer.table(&heading.into_iter().chain(rows).collect::<Vec<_>>())?;
        }
        if is_first && reply.unreadable_count > 0 {
            output::note(&format!(
                "{} job folders cannot be read; the log of the service names them",
                reply.unreadable_count
            ));
        }
        is_first = false;
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(DONE);
        }
    }
    if !printer.json && !quiet && output::is_watched() {
        output::note("there are more; list them with --all or a larger --limit");
    }
    Ok(DONE)
}

fn heading() -> Vec<Cell> {
    let names = ["JOB", "STATE", "EXIT", "AGE", "TIME", "COMMAND"];
    names.map(|name| Cell::new(name, Colour::Bold)).to_vec()
}

fn row(job: &Job) -> Vec<Cell> {
    let spec = job.spec.clone().unwrap_or_default();
    let what = match spec.display_name.as_str() {
        "" => show::command_line(&spec),
        name => name.to_owned(),
    };
    let width = output::columns().map_or(COMMAND_CHARACTERS, |columns| {
        columns.saturating_sub(OTHER_COLUMNS).max(COMMAND_CHARACTERS / 3)
    });
    let age = show::system_time(job.create_time.as_ref())
        .map(|time| SystemTime::now().duration_since(time).unwrap_or_default());
    vec![
        Cell::plain(&job.job_id),
        Cell::new(show::state_name(job.state()), show::state_colour(job.state())),
        Cell::plain(end::exit_word(job)),
        Cell::plain(age.map(show::short_span).unwrap_or_default()),
        Cell::plain(show::run_time(job).map(show::short_span).unwrap_or_default()),
        Cell::plain(output::shortened(&output::escaped(&what), width)),
    ]
}

fn state_of(name: StateName) -> JobState {
    match name {
        StateName::Queued => JobState::Queued,
        StateName::Running => JobState::Running,
        StateName::Succeeded => JobState::Succeeded,
        StateName::Failed => JobState::Failed,
        StateName::Cancelled => JobState::Cancelled,
        StateName::TimedOut => JobState::TimedOut,
        StateName::Lost => JobState::Lost,
    }
}
