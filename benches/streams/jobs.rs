//! The few calls that every part makes.

use jobwarden::api;
use tokio::task::JoinSet;

use crate::service::Service;

const WAIT: prost_types::Duration = prost_types::Duration { seconds: 600, nanos: 0 };
const CALLERS: usize = 16;

/// Starts a job of this command.
pub(crate) fn exec(argv: Vec<String>) -> api::ExecRequest {
    let spec = Some(api::JobSpec { argv, ..api::JobSpec::default() });
    api::ExecRequest { spec, ..api::ExecRequest::default() }
}

/// Submits a job and returns its id.
pub(crate) async fn submit(service: &Service, request: api::ExecRequest) -> String {
    let reply = service.client().exec(request).await.expect("a job is accepted").into_inner();
    reply.job.expect("the job is told").job_id
}

/// Runs `/bin/true` so many times from several callers, each waiting for the end.
pub(crate) async fn run_many(service: &Service, count: usize) {
    let mut open = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = service.client();
        let own = count / CALLERS + usize::from(caller < count % CALLERS);
        open.spawn(async move {
            for _ in 0..own {
                let request = exec(vec!["/bin/true".to_owned()]);
                let request = api::ExecRequest { wait: Some(WAIT), ..request };
                client.exec(request).await.expect("a job is accepted");
            }
        });
    }
    open.join_all().await;
}

/// Runs a script and waits for its end.
pub(crate) async fn run_script(service: &Service, shell: String) -> String {
    let spec = Some(api::JobSpec { shell, ..api::JobSpec::default() });
    let request = api::ExecRequest { spec, wait: Some(WAIT), ..api::ExecRequest::default() };
    let reply = service.client().exec(request).await.expect("a job is accepted").into_inner();
    let job = reply.job.expect("the job is told");
    assert_eq!(job.state(), api::JobState::Succeeded);
    job.job_id
}

/// Ends and removes jobs.
pub(crate) async fn delete_all(service: &Service, ids: Vec<String>) {
    for ids in ids.chunks(CALLERS) {
        let mut open = JoinSet::new();
        for job_id in ids.iter().cloned() {
            let mut client = service.client();
            open.spawn(async move {
                let request = api::DeleteRequest { job_id, force: true, allow_missing: false };
                client.delete(request).await.expect("the job can be removed");
            });
        }
        open.join_all().await;
    }
}
