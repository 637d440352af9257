//! `jobwarden rerun`: runs the command of an old job again.

use clap::Args;

use crate::api::RerunRequest;

use super::{
    Context, Outcome,
    exec::{self, RunFlags},
    failure::Failure,
    spec,
};

const EXAMPLES: &str = "\
Examples:
  jobwarden rerun ID                   print the id of the new job
  jobwarden rerun --follow --secret-env TOKEN=@token.txt ID

Secrets are not kept with a job, so they have to be given again.";

/// The arguments of `rerun`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct RerunCommand {
    /// The whole id of the old job
    job: String,
    #[command(flatten)]
    run: RunFlags,
    /// Give a secret variable again: passed on from here, or read from a file
    #[arg(long, value_name = "NAME[=@FILE]")]
    secret_env: Vec<String>,
    /// Make it safe to repeat the command: the same id never runs twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

pub(super) async fn run(context: &Context, command: RerunCommand) -> Outcome {
    let RerunCommand { job: job_id, run, secret_env, request_id } = command;
    let request = RerunRequest {
        job_id,
        request_id: match request_id {
            Some(id) => id,
            None => exec::random_request_id()?,
        },
        secret_env: spec::secrets(&secret_env)?,
    };
    let client = context.connect().await?;
    let accept = async {
        let job = client.rerun(request).await?.job;
        job.ok_or_else(|| Failure::internal("the service accepted a job and did not name it"))
    };
    Box::pin(exec::accept_and_attend(context, &client, run, accept)).await
}
