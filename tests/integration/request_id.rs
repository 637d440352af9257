//! Request ids: however often a call is repeated, there is one job.

use std::collections::HashSet;

use jobwarden::api::{ExecRequest, ExecResponse, JobSpec, ListRequest};
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, argv, pairs, refused, shell};

fn request(request_id: &str, spec: JobSpec) -> ExecRequest {
    ExecRequest { request_id: request_id.to_owned(), spec: Some(spec), ..ExecRequest::default() }
}

fn id_of(reply: &ExecResponse) -> String {
    reply.job.as_ref().unwrap().job_id.clone()
}

#[tokio::test]
async fn many_calls_at_once_with_one_request_id_make_one_job() {
    let daemon = Daemon::start().await;
    let ran = daemon.beside().join("ran");
    let script = format!("echo x >> {}", ran.display());
    let calls: Vec<_> = (0..32)
        .map(|_| {
            let (mut api, request) = (daemon.api(), request("one", shell(&script)));
            tokio::spawn(async move { api.exec(request).await.unwrap().into_inner() })
        })
        .collect();
    let mut ids = HashSet::new();
    let mut accepted = 0;
    for call in calls {
        let reply = call.await.unwrap();
        accepted += usize::from(!reply.deduplicated);
        ids.insert(id_of(&reply));
    }
    assert_eq!((ids.len(), accepted), (1, 1));
    let id = ids.into_iter().next().unwrap();
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    let listed = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(listed.len(), 1);
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "x\n");
}

#[tokio::test]
async fn a_request_id_outlives_the_service_and_the_job_its_end() {
    let daemon = Daemon::start().await;
    let request = request("over-restarts", shell("echo once"));
    let first = daemon.api().exec(request.clone()).await.unwrap().into_inner();
    let id = id_of(&first);
    daemon.wait(&id).await;
    let daemon = daemon.kill_and_restart().await;
    let second = daemon.api().exec(request.clone()).await.unwrap().into_inner();
    assert!(second.deduplicated);
    assert_eq!(id_of(&second), id);
    assert_eq!(second.job.unwrap().exit_code(), Some(0));
    // Once the job is gone the id is free.
    daemon.delete(&id, false).await.unwrap();
    let third = daemon.api().exec(request).await.unwrap().into_inner();
    assert!(!third.deduplicated && id_of(&third) > id);
}

#[tokio::test]
async fn a_request_id_with_another_spec_is_refused() {
    let daemon = Daemon::start().await;
    let spec = JobSpec {
        stdin: "in".into(),
        secret_env: pairs([("KEY", "one")]),
        labels: pairs([("a", "1"), ("b", "2")]),
        ..shell("true")
    };
    let first = daemon.api().exec(request("one", spec.clone())).await.unwrap().into_inner();
    let again = daemon.api().exec(request("one", spec.clone())).await.unwrap().into_inner();
    assert!(again.deduplicated);
    for other in [
        JobSpec { shell: "false".to_owned(), ..spec.clone() },
        JobSpec { stdin: "i".into(), ..spec.clone() },
        JobSpec { secret_env: pairs([("KEY", "two")]), ..spec.clone() },
        JobSpec { labels: pairs([("a", "1")]), ..spec.clone() },
        JobSpec { priority: 1, ..spec.clone() },
    ] {
        let error = refused(daemon.api().exec(request("one", other)).await);
        assert_eq!(error.kind(), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
        assert_eq!(error.metadata["job_id"], id_of(&first));
    }
}

#[tokio::test]
async fn a_request_id_belongs_to_its_principal() {
    let daemon = Daemon::start().await;
    let over_tcp = daemon.api().exec(request("one", argv(&["true"]))).await.unwrap().into_inner();
    let mut api = daemon.api_over_socket().await;
    let over_socket = api.exec(request("one", argv(&["true"]))).await.unwrap().into_inner();
    assert!(!over_socket.deduplicated);
    assert_ne!(id_of(&over_tcp), id_of(&over_socket));
    assert_ne!(over_tcp.job.unwrap().owner, over_socket.job.unwrap().owner);
}

#[tokio::test]
async fn a_malformed_request_id_is_refused() {
    let daemon = Daemon::start().await;
    for bad in ["a b", "ä", "a\n", "\u{7f}", &"x".repeat(129)] {
        let error = refused(daemon.api().exec(request(bad, argv(&["true"]))).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{bad:?}");
        assert_eq!(error.fields, ["request_id"]);
    }
    let longest = request(&"~".repeat(128), argv(&["true"]));
    assert!(daemon.api().exec(longest).await.is_ok());
}

#[tokio::test]
async fn the_callers_that_lost_their_answer_find_the_job_by_repeating() {
    let mut daemon = Daemon::start().await;
    let mut calls = Vec::new();
    for n in 0..8 {
        let (mut api, request) = (daemon.api(), request(&format!("n{n}"), argv(&["true"])));
        calls.push(tokio::spawn(async move { api.exec(request).await }));
    }
    // Some have been answered by now, some have not.
    tokio::task::yield_now().await;
    daemon.kill();
    let mut known = Vec::new();
    for call in calls {
        known.push(call.await.unwrap().ok().map(|reply| id_of(&reply.into_inner())));
    }
    let daemon = daemon.restart().await;
    for (n, known) in known.into_iter().enumerate() {
        let request = request(&format!("n{n}"), argv(&["true"]));
        let reply = daemon.api().exec(request).await.unwrap().into_inner();
        if let Some(known) = known {
            assert_eq!(id_of(&reply), known, "what was answered is there");
        }
    }
    let listed = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(listed.len(), 8);
}
