//! `jobwarden exec`: runs a command as a job.

use std::{fs::File, io::Read as _, pin::pin};

use clap::Args;

use crate::{
    api::{ExecRequest, Job},
    client::Client,
};

use super::{
    Context, Outcome, end,
    failure::{DONE, Failure, INTERRUPTED},
    follow::{self, StopRequest, StopRequests},
    output,
    spec::{self, SpecFlags},
};

const EXAMPLES: &str = "\
Examples:
  jobwarden exec -- make -j8                      print the id of the job and return
  jobwarden exec --follow -- make test            show its output, exit with its exit code
  jobwarden exec --wait --timeout 10m -- ./nightly
  jobwarden exec --shell 'ls | wc -l' --follow
  jobwarden exec --secret-env TOKEN=@token.txt --label team=web -- ./deploy
  echo hello | jobwarden exec --stdin --follow -- cat

With --follow, Ctrl-C cancels the job, a second one kills it, a third leaves it alone. Closing the
terminal leaves it running.";

/// The arguments of `exec`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExecCommand {
    #[command(flatten)]
    pub(super) run: RunFlags,
    /// Make it safe to repeat the command: the same id never runs twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    pub(super) spec: SpecFlags,
}

/// What to do after the job was accepted.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct RunFlags {
    /// Show its output as it comes and exit with its exit code
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Wait for its end and exit with its exit code
    #[arg(short, long, conflicts_with = "follow")]
    wait: bool,
}

pub(super) async fn run(context: &Context, command: ExecCommand) -> Outcome {
    let ExecCommand { run, request_id, spec } = command;
    let request = ExecRequest {
        spec: Some(spec::build(spec)?),
        request_id: match request_id {
            Some(id) => id,
            // With an id of its own the call can be repeated when the connection is lost.
            None => random_request_id()?,
        },
        wait: None,
        output_tail_bytes: 0,
    };
    let client = context.connect().await?;
    let accept = async {
        let job = client.exec(request).await?.job;
        job.ok_or_else(|| Failure::internal("the service accepted a job and did not name it"))
    };
    Box::pin(accept_and_attend(context, &client, run, accept)).await
}

/// Waits for `accept` to bring a job and does with it what `run` says.
pub(super) async fn accept_and_attend(
    context: &Context,
    client: &Client,
    run: RunFlags,
    accept: impl Future<Output = Result<Job, Failure>>,
) -> Outcome {
    if !run.follow {
        return attend(context, client, run, accept.await?).await;
    }
    // From here on an interrupt is for the job, which may exist before we know its name.
    let mut stops = StopRequests::new()?;
    let mut accept = pin!(accept);
    let mut is_unwanted = false;
    let job = loop {
        tokio::select! {
            accepted = &mut accept => break accepted?,
            stop = stops.next() => match stop {
                StopRequest::Cancel => is_unwanted = true,
                StopRequest::Kill | StopRequest::Leave => return Err(Failure::silent(INTERRUPTED)),
            },
        }
    };
    if !context.printer.json && (context.global.verbose || output::is_watched()) {
        output::note(&format!("job {}", job.job_id));
    }
    if is_unwanted {
        follow::cancel(client, &job.job_id);
    }
    follow::follow(client, &job.job_id, context.printer.json, stops).await
}

async fn attend(context: &Context, client: &Client, run: RunFlags, job: Job) -> Outcome {
    let printer = context.printer;
    if !printer.json {
        output::line(&output::escaped(&job.job_id))?;
    } else if !run.wait {
        printer.object("Job", &job)?;
    }
    if !run.wait {
        return Ok(DONE);
    }
    let job = client.wait_until_ended(&job.job_id, None).await?.job.unwrap_or(job);
    if printer.json {
        printer.object("Job", &job)?;
    } else if let Some(remark) = end::remark(&job) {
        output::note(&remark);
    }
    Ok(end::exit_code(&job))
}

/// An id that no other call has.
pub(super) fn random_request_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Failure::internal(format!("cannot read /dev/urandom: {error}")))?;
    Ok(format!("cli-{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_long_and_never_the_same() {
        let (first, second) = (random_request_id().unwrap(), random_request_id().unwrap());
        assert_ne!(first, second);
        assert_eq!(first.len(), 36);
        assert!(first.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
