//! Finding things out: a job by the beginning of its id, the server, its methods.

use jobwarden::api::{
    CancelRequest, GetServerInfoRequest, JobState, KillRequest, StateCount, StatusRequest,
};
use prost::Message as _;
use tonic::Code;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{Daemon, JobFacts as _, Setup, argv, refused, seconds, shell};

#[tokio::test]
async fn the_beginning_of_an_id_is_enough_to_read() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on")).await;
    let ended = daemon.wait(&id).await;
    for length in [4, 10, 25, 26] {
        assert_eq!(daemon.status(&id[..length]).await, ended, "{length}");
    }
    assert_eq!(daemon.wait(&id[..12]).await, ended);
    assert_eq!(daemon.stdout(&id[..12]).await, "on\n");
}

#[tokio::test]
async fn a_beginning_that_fits_several_jobs_names_them() {
    let daemon = Daemon::start().await;
    let mut ids = Vec::new();
    for _ in 0..25 {
        ids.push(daemon.exec(argv(&["true"])).await);
    }
    let common = |prefix: &str| ids.iter().filter(|id| id.starts_with(prefix)).count();
    // All are of these minutes, so the first characters are the same.
    let prefix = &ids[0][..4];
    assert_eq!(common(prefix), 25);
    let error = refused(daemon.try_status(prefix).await);
    assert_eq!(error.kind(), (Code::InvalidArgument, "AMBIGUOUS_JOB_ID"));
    let named: Vec<&str> = error.metadata["candidates"].split(", ").collect();
    assert_eq!(named.len(), 20, "not more than twenty are named");
    assert!(named.iter().all(|id| ids.iter().any(|known| known == id)), "{named:?}");
}

#[tokio::test]
async fn what_is_no_id_is_refused_and_what_is_unknown_is_not_found() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    for bad in ["", "abc", "../../../etc/passwd", "..", "ABCD", "0123\0", "a/b/c", "äöüß"] {
        let error = refused(daemon.try_status(bad).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"), "{bad:?}");
        assert_eq!(error.fields, ["job_id"]);
    }
    let longer = format!("{id}0");
    assert_eq!(refused(daemon.try_status(&longer).await).code, Code::InvalidArgument);
    for unknown in ["7zzz", "nosuchjob", &"0".repeat(26), &"z".repeat(26)] {
        let error = refused(daemon.try_status(unknown).await);
        assert_eq!(error.kind(), (Code::NotFound, "JOB_NOT_FOUND"), "{unknown}");
    }
}

#[tokio::test]
async fn what_changes_a_job_takes_the_whole_id() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let job_id = id[..20].to_owned();
    let cancel = CancelRequest { job_id: job_id.clone(), ..CancelRequest::default() };
    assert_eq!(refused(daemon.api().cancel(cancel).await).fields, ["job_id"]);
    let kill = KillRequest { job_id: job_id.clone(), ..KillRequest::default() };
    assert_eq!(refused(daemon.api().kill(kill).await).fields, ["job_id"]);
    assert_eq!(
        refused(daemon.delete(&job_id, true).await.map(tonic::Response::new)).fields,
        ["job_id"]
    );
    assert_eq!(daemon.started(&id).await.cancel, None);
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn the_server_tells_its_limits_and_counts_its_jobs() {
    let flags = ["--max-running-jobs", "1", "--max-queued-jobs", "7", "--max-stdin-bytes", "4096"];
    let daemon = Daemon::start_with(Setup::flags(&flags)).await;
    daemon.run(argv(&["true"])).await;
    daemon.run(argv(&["false"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let queued = daemon.exec(argv(&["true"])).await;
    let info = daemon.api().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert!(info.start_time.is_some() && !info.store_id.is_empty());
    assert_eq!(info.durability, "process");
    let limits = info.limits.unwrap();
    assert_eq!((limits.max_running_jobs, limits.max_queued_jobs), (1, 7));
    assert_eq!((limits.max_stdin_bytes, limits.max_wait), (4096, seconds(3600)));
    assert!(limits.max_request_bytes > 4096 && limits.max_streams > 0);
    let of = |state: JobState| {
        let is_it = |count: &&StateCount| count.state() == state;
        info.counts.iter().find(is_it).map_or(0, |count| count.count)
    };
    let states = [
        JobState::Succeeded,
        JobState::Failed,
        JobState::Running,
        JobState::Queued,
        JobState::Lost,
    ];
    let counts = states.map(of);
    assert_eq!(counts, [1, 1, 1, 1, 0]);
    daemon.delete(&queued, true).await.unwrap();
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn the_store_keeps_its_name_over_restarts() {
    let daemon = Daemon::start().await;
    let info = async |daemon: &Daemon| {
        daemon.api().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner()
    };
    let before = info(&daemon).await;
    let daemon = daemon.kill_and_restart().await;
    let after = info(&daemon).await;
    assert_eq!(before.store_id, after.store_id);
    let other = Daemon::start().await;
    assert_ne!(info(&other).await.store_id, after.store_id);
}

#[tokio::test]
async fn reflection_tells_the_services_in_both_versions() {
    let daemon = Daemon::start().await;
    let expected = ["grpc.health.v1.Health", "jobwarden.v1.JobService"];
    {
        use v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let list = MessageRequest::ListServices(String::new());
        let request = ServerReflectionRequest { message_request: Some(list), ..Default::default() };
        let mut client = ServerReflectionClient::new(daemon.channel().await);
        let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let reply = stream.into_inner().message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = reply else { panic!("{reply:?}") };
        let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    }
    {
        use v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let symbol = MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned());
        let request =
            ServerReflectionRequest { message_request: Some(symbol), ..Default::default() };
        let mut client = ServerReflectionClient::new(daemon.channel().await);
        let stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
        let reply = stream.into_inner().message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::FileDescriptorResponse(files)) = reply else {
            panic!("{reply:?}")
        };
        let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]);
        assert_eq!(file.unwrap().package(), "google.rpc");
    }
}

#[tokio::test]
async fn an_unknown_method_says_so_with_a_reason() {
    let daemon = Daemon::start().await;
    let mut client = tonic::client::Grpc::new(daemon.channel().await);
    client.ready().await.unwrap();
    let path = "/jobwarden.v1.JobService/Frobnicate".parse().unwrap();
    let codec: tonic_prost::ProstCodec<StatusRequest, StatusRequest> =
        tonic_prost::ProstCodec::default();
    let request = tonic::Request::new(StatusRequest::default());
    let error = refused(client.unary(request, path, codec).await);
    assert_eq!(error.kind(), (Code::Unimplemented, "UNSUPPORTED"));
    assert_eq!(daemon.run(argv(&["true"])).await.exit_code(), Some(0));
}
