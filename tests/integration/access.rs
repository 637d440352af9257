//! Who may do what: every call by every way in and with every role, and what one principal learns
//! of the jobs of another, which is nothing.

use jobwarden::api::{
    CancelRequest, DeleteRequest, EventType, ExecRequest, GetServerInfoRequest, JobFilter,
    KillRequest, ListRequest, RerunRequest, StatusRequest, TailLogRequest, UpdateLabelsRequest,
    UpdateTimeoutRequest, WaitManyRequest, WaitRequest, WatchEventsRequest, WatchStart,
    job_service_client::JobServiceClient, update_timeout_request::Change,
    watch_events_response::Kind,
};
use tonic::{Code, Request, transport::Channel};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::harness::{
    Api, Bearer, Daemon, Setup, argv, bearer, ended_job, over_tcp, refused, seconds,
    tls::{Authority, ClientSetup, Files, TlsClient, replace},
    token, token_command, verdict, with_tokens, within,
};

const CALLS: [&str; 15] = [
    "Exec",
    "Status",
    "List",
    "Wait",
    "WaitMany",
    "Kill",
    "Cancel",
    "Delete",
    "Rerun",
    "UpdateLabels",
    "UpdateTimeout",
    "WatchEvents",
    "TailLog",
    "GetServerInfo",
    "Reflection",
];

/// Makes a call about a job that has ended.
async fn call(
    api: &mut Api,
    channel: Channel,
    bearer: Bearer,
    name: &str,
    id: &str,
) -> &'static str {
    let job_id = id.to_owned();
    match name {
        "Exec" => {
            let spec = Some(argv(&["true"]));
            verdict(api.exec(ExecRequest { spec, ..ExecRequest::default() }).await)
        }
        "Status" => verdict(api.status(StatusRequest { job_id }).await),
        "List" => verdict(api.list(ListRequest::default()).await),
        "Wait" => verdict(api.wait(WaitRequest { job_id, ..WaitRequest::default() }).await),
        "WaitMany" => {
            let request = WaitManyRequest { job_ids: vec![job_id], ..WaitManyRequest::default() };
            verdict(api.wait_many(request).await)
        }
        "Kill" => verdict(api.kill(KillRequest { job_id, ..KillRequest::default() }).await),
        "Cancel" => verdict(api.cancel(CancelRequest { job_id, ..CancelRequest::default() }).await),
        "Delete" => verdict(api.delete(DeleteRequest { job_id, ..DeleteRequest::default() }).await),
        "Rerun" => verdict(api.rerun(RerunRequest { job_id, ..RerunRequest::default() }).await),
        "UpdateLabels" => {
            let request = UpdateLabelsRequest { job_id, ..UpdateLabelsRequest::default() };
            verdict(api.update_labels(request).await)
        }
        "UpdateTimeout" => {
            let change = Some(Change::Clear(true));
            verdict(api.update_timeout(UpdateTimeoutRequest { job_id, change }).await)
        }
        "WatchEvents" => verdict(api.watch_events(WatchEventsRequest::default()).await),
        "TailLog" => {
            verdict(api.tail_log(TailLogRequest { job_id, ..TailLogRequest::default() }).await)
        }
        "GetServerInfo" => verdict(api.get_server_info(GetServerInfoRequest {}).await),
        "Reflection" => {
            let mut api = ServerReflectionClient::with_interceptor(channel, bearer);
            let message_request = Some(MessageRequest::ListServices(String::new()));
            let request = ServerReflectionRequest { host: String::new(), message_request };
            verdict(api.server_reflection_info(tokio_stream::iter([request])).await)
        }
        other => panic!("{other} is no call"),
    }
}

/// What each call about somebody else's job comes to, for a reader, submitter, operator and admin.
fn others_job(call: &str) -> [&'static str; 4] {
    match call {
        "List" | "WatchEvents" | "GetServerInfo" | "Reflection" => ["ok"; 4],
        "Exec" => ["role", "ok", "ok", "ok"],
        "Status" | "Wait" | "WaitMany" | "TailLog" => ["ok", "hidden", "ok", "ok"],
        "Delete" => ["role", "hidden", "owner", "ok"],
        _ => ["role", "hidden", "ok", "ok"],
    }
}

const ROLES: [&str; 4] = ["reader", "submitter", "operator", "admin"];

/// A caller: its connection, and the token that it sends, if any.
type Caller = (Channel, Bearer);

/// Makes every call about a job of `owner` and of its own by each of the callers, which have the
/// roles in their order.
async fn check_table(way: &str, owner: &mut Api, callers: [Caller; 4]) {
    for (place, (channel, bearer)) in callers.into_iter().enumerate() {
        let role = ROLES[place];
        let mut api = JobServiceClient::with_interceptor(channel.clone(), bearer.clone());
        for name in CALLS {
            let id = ended_job(owner).await;
            let came_to = call(&mut api, channel.clone(), bearer.clone(), name, &id).await;
            assert_eq!(came_to, others_job(name)[place], "{name} by a {role} over {way}");
            if role != "reader" {
                let own = ended_job(&mut api).await;
                let came_to = call(&mut api, channel.clone(), bearer.clone(), name, &own).await;
                assert_eq!(came_to, "ok", "{name} of its own job by a {role} over {way}");
            }
        }
    }
}

#[tokio::test]
async fn every_call_is_allowed_or_refused_by_role_and_owner_with_a_token() {
    let daemon = with_tokens().await;
    let tokens = ROLES.map(|role| token(&daemon, role, role, &[]));
    let mut owner = over_tcp(&daemon, Some(&token(&daemon, "owner", "submitter", &[]))).await;
    let ways = [("TCP", daemon.channel().await), ("the socket", daemon.socket_channel().await)];
    for (way, channel) in ways {
        let callers = tokens.each_ref().map(|token| (channel.clone(), bearer(Some(token))));
        check_table(way, &mut owner, callers).await;
    }
}

#[tokio::test]
async fn every_call_is_allowed_or_refused_by_role_and_owner_with_a_certificate() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let folder = tempfile::tempdir().unwrap();
    let mut flags = Files::write(folder.path(), &servers.server()).flags();
    let authorities = folder.path().join("clients.pem");
    replace(&authorities, &clients.pem(), 0o644);
    flags.extend(["--tls-client-ca".to_owned(), authorities.display().to_string()]);
    for role in ROLES {
        flags.extend(["--certificates".to_owned(), format!("CN:{role}={role}")]);
    }
    let root = folder.path().join("root");
    let setup = Setup { needs_token: true, flags, ..Setup::default() };
    let daemon = Daemon::start_on(setup, root, folder).await;
    let channel = async |name: &str| {
        let pair = clients.client(name);
        let setup = ClientSetup { pair: Some(&pair), ..ClientSetup::default() };
        TlsClient::new(&servers, &setup).channel(daemon.tcp()).await.unwrap()
    };
    let mut owner = JobServiceClient::with_interceptor(daemon.socket_channel().await, bearer(None));
    let mut callers = Vec::new();
    for role in ROLES {
        callers.push((channel(role).await, bearer(None)));
    }
    check_table("mTLS", &mut owner, callers.try_into().unwrap()).await;
    let stranger = channel("stranger").await;
    let mut api = JobServiceClient::with_interceptor(stranger.clone(), bearer(None));
    for name in CALLS {
        let came_to = call(&mut api, stranger.clone(), bearer(None), name, "0123").await;
        assert_eq!(came_to, "nobody", "{name} by a certificate without a role");
    }
}

#[tokio::test]
async fn nobody_is_let_in_over_tcp_without_a_good_token() {
    let daemon = with_tokens().await;
    let mut owner = over_tcp(&daemon, Some(&token(&daemon, "owner", "admin", &[]))).await;
    let id = ended_job(&mut owner).await;
    let short = token(&daemon, "short", "admin", &["--expires", "1ms"]);
    let revoked = token(&daemon, "gone", "admin", &[]);
    assert_eq!(token_command(&daemon, &["revoke", "gone"]).0, Some(0));
    let foreign =
        "jw_0123456789ab_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let channel = daemon.channel().await;
    for brought in [None, Some(&*short), Some(&revoked), Some(foreign), Some(""), Some("admin")] {
        let bearer = bearer(brought);
        let mut api = JobServiceClient::with_interceptor(channel.clone(), bearer.clone());
        for name in CALLS {
            let came_to = call(&mut api, channel.clone(), bearer.clone(), name, &id).await;
            assert_eq!(came_to, "nobody", "{name} with {brought:?}");
        }
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
    assert!(answer.is_ok(), "health is open: {answer:?}");
    // A stream takes a place for as long as it likes.
    let answer = health.watch(tonic_health::pb::HealthCheckRequest::default()).await;
    assert_eq!(verdict(answer), "nobody");
}

#[tokio::test]
async fn the_socket_lets_its_owner_do_everything_and_a_token_there_decides_alone() {
    let daemon = with_tokens().await;
    let mut owner = daemon.api_over_socket().await;
    let spec = Some(argv(&["true"]));
    let request = ExecRequest { spec, wait: seconds(20), ..ExecRequest::default() };
    let job = owner.exec(request).await.unwrap().into_inner().job.unwrap();
    assert!(job.owner.starts_with("uid:"), "{}", job.owner);
    let request = || {
        let mut request =
            Request::new(DeleteRequest { job_id: job.job_id.clone(), ..Default::default() });
        let reader = token(&daemon, "reader", "reader", &[]);
        let header = format!("Bearer {reader}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        request
    };
    assert_eq!(verdict(owner.delete(request()).await), "role");
    let mut twice = request();
    twice.metadata_mut().append("authorization", "Bearer x".parse().unwrap());
    assert_eq!(verdict(owner.delete(twice).await), "nobody");
    let plain = DeleteRequest { job_id: job.job_id.clone(), ..DeleteRequest::default() };
    assert_eq!(verdict(owner.delete(plain).await), "ok");
}

#[tokio::test]
async fn the_jobs_of_others_do_not_exist_for_a_submitter() {
    let daemon = with_tokens().await;
    let mut ada = over_tcp(&daemon, Some(&token(&daemon, "ada", "submitter", &[]))).await;
    let mut bob = over_tcp(&daemon, Some(&token(&daemon, "bob", "submitter", &[]))).await;
    let request = WatchEventsRequest { start: WatchStart::Snapshot.into(), ..Default::default() };
    let mut watch = bob.watch_events(request).await.unwrap().into_inner();
    let adas = ended_job(&mut ada).await;
    let bobs = ended_job(&mut bob).await;

    // The same as for a job that never was.
    let never = "0".repeat(26);
    for id in [&adas, &never, &adas[..12].to_owned()] {
        let error = refused(bob.status(StatusRequest { job_id: id.clone() }).await);
        assert_eq!(error.kind(), (Code::NotFound, "JOB_NOT_FOUND"), "{id}");
        assert!(!error.message.replace(id.as_str(), "").contains("token:ada"), "{error:?}");
    }
    // A prefix of both is no longer ambiguous.
    let common = adas.bytes().zip(bobs.bytes()).take_while(|(one, other)| one == other).count();
    assert!(common >= 4, "both were made within moments");
    let found = bob.status(StatusRequest { job_id: bobs[..common].to_owned() }).await.unwrap();
    assert_eq!(found.into_inner().job.unwrap().job_id, bobs);

    for owner in ["", "token:ada", "token:bob"] {
        let filter = Some(JobFilter { owner: owner.to_owned(), ..JobFilter::default() });
        let listed = bob.list(ListRequest { filter: filter.clone(), ..Default::default() }).await;
        let listed: Vec<_> =
            listed.unwrap().into_inner().jobs.into_iter().map(|job| job.job_id).collect();
        let expected = if owner == "token:ada" { Vec::new() } else { vec![bobs.clone()] };
        assert_eq!(listed, expected, "{owner:?}");
        let request = WaitManyRequest { filter, ..WaitManyRequest::default() };
        let waited = bob.wait_many(request).await.unwrap().into_inner().jobs;
        assert_eq!(waited.len(), expected.len(), "{owner:?}");
    }
    let info = bob.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.counts.iter().map(|count| count.count).sum::<u64>(), 1, "{:?}", info.counts);

    // A request id is one's own, and deleting what is not there tells nothing.
    let spec = Some(argv(&["true"]));
    let request =
        || ExecRequest { spec: spec.clone(), request_id: "one".to_owned(), ..Default::default() };
    let first = ada.exec(request()).await.unwrap().into_inner();
    let second = bob.exec(request()).await.unwrap().into_inner();
    assert!(!first.deduplicated && !second.deduplicated);
    let request = DeleteRequest { job_id: adas.clone(), allow_missing: true, ..Default::default() };
    bob.delete(request).await.unwrap();
    assert!(ada.status(StatusRequest { job_id: adas.clone() }).await.is_ok(), "it is still there");

    ada.delete(DeleteRequest { job_id: adas.clone(), ..Default::default() }).await.unwrap();
    bob.delete(DeleteRequest { job_id: bobs.clone(), ..Default::default() }).await.unwrap();
    let mut deleted = false;
    while !deleted {
        let message = within("an event", watch.message()).await.unwrap().unwrap();
        if let Some(Kind::Event(event)) = message.kind {
            let id = &event.job.as_ref().unwrap().job_id;
            assert_ne!(*id, adas, "{event:?}");
            deleted = event.r#type() == EventType::Deleted && *id == bobs;
        }
    }
}
