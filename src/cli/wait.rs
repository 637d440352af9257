//! `jobwarden wait`: waits for jobs to end and exits as they did.

use std::time::{Duration, Instant};

use clap::Args;

use crate::api::WaitUntil;

use super::{
    Context, Outcome, end,
    failure::{DONE, Failure, TRY_AGAIN},
    output::{self, Cell},
    parse, show,
};

const EXAMPLES: &str = "\
Examples:
  jobwarden wait 01jc                  exit with the exit code of the job
  jobwarden wait --timeout 10m A B     wait for both; the first failure in this order counts

Exits with 75 if the time is over first; the jobs go on.";

/// The arguments of `wait`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct WaitCommand {
    /// The ids of the jobs or their beginnings
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
    /// Wait at most this long for all of them together
    #[arg(short, long, value_parser = parse::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Wait only until they have started
    #[arg(long)]
    started: bool,
}

pub(super) async fn run(context: &Context, command: WaitCommand) -> Outcome {
    let WaitCommand { jobs, timeout, started } = command;
    let printer = context.printer;
    let until = if started { WaitUntil::Started } else { WaitUntil::Terminal };
    let client = context.connect().await?;
    let begin = Instant::now();
    let mut code = DONE;
    // Waiting for one after the other takes as long as waiting for the last.
    for job_id in jobs {
        let left = timeout.map(|timeout| timeout.saturating_sub(begin.elapsed()));
        let reply = client.wait_until(&job_id, until, left).await;
        let reply = reply.map_err(|error| Failure::from(error).about(&job_id))?;
        let job = reply.job.unwrap_or_default();
        if printer.json {
            printer.object("Job", &job)?;
        } else {
            let state = Cell::new(show::state_name(job.state()), show::state_colour(job.state()));
            let exit = Cell::plain(end::exit_word(&job));
            printer.table(&[vec![Cell::plain(&job.job_id), state, exit]])?;
        }
        if !reply.ended {
            let what = if started { "started" } else { "ended" };
            return Err(Failure::new(
                TRY_AGAIN,
                format!("job {} has not {what} in time", job.job_id),
            )
            .hint("it goes on; wait again, or look at it with `jobwarden status`"));
        }
        if !printer.json
            && let Some(remark) = end::remark(&job)
        {
            output::note(&remark);
        }
        if code == DONE && !started {
            code = end::exit_code(&job);
        }
    }
    Ok(code)
}
