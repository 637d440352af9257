//! Callers with tokens, and what a call of theirs comes to.

use std::process::Command;

use jobwarden::api::{ExecRequest, job_service_client::JobServiceClient};
use tonic::{
    Code, Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use super::{Daemon, Setup, seconds, shell};

/// Sends a token with each call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(pub(crate) Option<AsciiMetadataValue>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

pub(crate) type Channels = InterceptedService<Channel, Bearer>;
pub(crate) type Api = JobServiceClient<Channels>;

pub(crate) fn bearer(token: Option<&str>) -> Bearer {
    Bearer(token.map(|token| format!("Bearer {token}").parse().unwrap()))
}

pub(crate) async fn over_tcp(daemon: &Daemon, token: Option<&str>) -> Api {
    JobServiceClient::with_interceptor(daemon.channel().await, bearer(token))
}

/// A token as `jobwarden token create` prints it.
pub(crate) fn token(daemon: &Daemon, name: &str, role: &str, more: &[&str]) -> String {
    let (code, out) =
        token_command(daemon, &[&["create", "--name", name, "--role", role], more].concat());
    assert_eq!(code, Some(0), "{out}");
    out.trim_end().to_owned()
}

pub(crate) fn token_command(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobwarden"));
    command.args(["token", "--root"]).arg(daemon.root()).args(arguments);
    let output = command.env_remove("JOBWARDEN_CONFIG").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

pub(crate) async fn with_tokens() -> Daemon {
    Daemon::start_with(Setup { needs_token: true, ..Setup::default() }).await
}

/// A job of this caller that has ended.
pub(crate) async fn ended_job(api: &mut Api) -> String {
    let spec = Some(shell("echo secret-output"));
    let request = ExecRequest { spec, wait: seconds(20), ..ExecRequest::default() };
    api.exec(request).await.unwrap().into_inner().job.unwrap().job_id
}

/// What a call comes to, as far as it is about who calls.
pub(crate) fn verdict<T>(answer: Result<T, Status>) -> &'static str {
    let Err(status) = answer else { return "ok" };
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    match (status.code(), reason.as_str()) {
        // Its role lets it ask; the job has ended.
        (Code::FailedPrecondition, "JOB_ENDED") => "ok",
        (Code::NotFound, "JOB_NOT_FOUND") => "hidden",
        (Code::PermissionDenied, "ROLE_REQUIRED") => "role",
        (Code::PermissionDenied, "NOT_OWNER") => "owner",
        (Code::Unauthenticated, "UNAUTHENTICATED") => "nobody",
        other => panic!("{other:?}: {status:?}"),
    }
}
