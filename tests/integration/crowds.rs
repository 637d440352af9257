//! More connections than there is room for.

use jobwarden::api::{
    ExecRequest, ListRequest, WatchEventsRequest, job_service_client::JobServiceClient,
    watch_events_response::Kind,
};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{
    DEADLINE, Daemon, Setup, bearer, eventually,
    frames::farewell,
    over_tcp, shell,
    tls::{Authority, ClientSetup, Files, TlsClient},
    token, within,
};

/// How many connections say nothing.
const SILENT: usize = 500;

/// How long the service waits for the beginning of a connection when it does not drain.
const GREETING_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// The descriptors of a service that is short of them. It has 18 of its own, and may take a quarter
/// of the limit for the connections of each address.
const OPEN_FILES: usize = 30;

async fn is_answered(mut api: JobServiceClient<Channel>) -> bool {
    within("an answer or a refusal", api.list(ListRequest::default())).await.is_ok()
}

async fn newcomers_are_answered_again(daemon: &Daemon, token: Option<&str>) {
    let begin = std::time::Instant::now();
    loop {
        let endpoint = Endpoint::new(format!("http://{}", daemon.tcp())).unwrap();
        if let Ok(channel) = endpoint.connect().await {
            let mut api = JobServiceClient::with_interceptor(channel, bearer(token));
            let answer = api.list(ListRequest::default());
            if within("an answer or a refusal", answer).await.is_ok() {
                return;
            }
        }
        assert!(begin.elapsed() < DEADLINE, "there is room again");
    }
}

async fn silent(daemon: &Daemon) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..SILENT {
        streams.push(TcpStream::connect(daemon.tcp()).await.unwrap());
    }
    streams
}

#[tokio::test]
async fn a_silent_crowd_keeps_nobody_out_and_is_sent_away() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-connections", "100"])).await;
    let old = daemon.api();
    assert!(is_answered(old.clone()).await);
    let crowd = silent(&daemon).await;
    for _ in 0..10 {
        assert!(is_answered(JobServiceClient::new(daemon.channel().await)).await);
        assert!(is_answered(daemon.api_over_socket().await).await);
    }
    // Those whose seat was needed went first; the others had said nothing in time.
    for stream in crowd {
        within("it is sent away", farewell(stream)).await;
    }
    assert!(is_answered(old).await, "who was let in stayed");
}

#[tokio::test]
async fn a_crowd_that_never_shakes_hands_keeps_nobody_out() {
    let authority = Authority::new("servers");
    let folder = tempfile::tempdir().unwrap();
    let mut flags = Files::write(folder.path(), &authority.server()).flags();
    flags.extend(["--max-connections".to_owned(), "100".to_owned()]);
    let root = folder.path().join("root");
    let daemon = Daemon::start_on(Setup { flags, ..Setup::default() }, root, folder).await;
    let client = TlsClient::new(&authority, &ClientSetup::default());
    let old = client.api(daemon.tcp()).await.unwrap();
    assert!(is_answered(old.clone()).await);
    let crowd = silent(&daemon).await;
    for _ in 0..10 {
        assert!(is_answered(client.api(daemon.tcp()).await.unwrap()).await);
    }
    for stream in crowd {
        within("it is sent away", farewell(stream)).await;
    }
    assert!(is_answered(old).await, "who was let in stayed");
}

#[tokio::test]
async fn when_everybody_has_its_share_the_next_one_waits_until_somebody_goes() {
    let setup = Setup::flags(&["--max-connections", "4"]);
    let daemon = Daemon::start_with(Setup { needs_token: true, ..setup }).await;
    let tokens = ["ada", "bob", "cyd", "dan"].map(|name| token(&daemon, name, "reader", &[]));
    let mut apis = Vec::new();
    for token in &tokens {
        let mut api = over_tcp(&daemon, Some(token)).await;
        within("an answer", api.list(ListRequest::default())).await.unwrap();
        apis.push(api);
    }
    let refused = TcpStream::connect(daemon.tcp()).await.unwrap();
    within("it is closed at once", farewell(refused)).await;
    drop(apis);
    newcomers_are_answered_again(&daemon, Some(&tokens[0])).await;
}

#[tokio::test]
async fn a_principal_that_takes_all_connections_keeps_no_other_out() {
    let setup = Setup::flags(&["--max-connections", "40"]);
    let daemon = Daemon::start_with(Setup { needs_token: true, ..setup }).await;
    let [greedy, other] = ["greedy", "other"].map(|name| token(&daemon, name, "reader", &[]));
    let mut crowd = Vec::new();
    for _ in 0..40 {
        let mut api = over_tcp(&daemon, Some(&greedy)).await;
        let watch = within("an answer", api.watch_events(WatchEventsRequest::default())).await;
        crowd.push((watch.unwrap().into_inner(), api));
    }
    for _ in 0..20 {
        let mut api = over_tcp(&daemon, Some(&other)).await;
        within("an answer", api.list(ListRequest::default())).await.unwrap();
    }
    // The first of them has lost nothing by it: it hears of a job that begins now.
    let request = ExecRequest { spec: Some(shell("true")), ..ExecRequest::default() };
    let answer = daemon.api_over_socket().await.exec(request).await;
    let id = answer.unwrap().into_inner().job.unwrap().job_id;
    let (watch, _) = &mut crowd[0];
    let heard = async {
        while let Some(response) = watch.message().await.unwrap() {
            let Some(Kind::Event(event)) = response.kind else { continue };
            if event.job.is_some_and(|job| job.job_id == id) {
                return;
            }
        }
        panic!("the watch ended");
    };
    within("the event", heard).await;
}

#[tokio::test]
async fn a_service_short_of_descriptors_recovers_without_help() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("short");
    let program = env!("CARGO_BIN_EXE_jobwarden");
    let script = format!("#!/bin/sh\nulimit -n {OPEN_FILES}\nexec {program} \"$@\"\n");
    std::fs::write(&binary, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&binary, mode).unwrap();
    let setup = Setup { binary: Some(binary), ..Setup::default() };
    let root = folder.path().join("root");
    let daemon = Daemon::start_on(setup, root, folder).await;
    assert!(is_answered(daemon.api()).await);
    let crowd = silent(&daemon).await;
    // The crowd on the other address needs what the first has left.
    let mut others = Vec::new();
    for _ in 0..OPEN_FILES {
        others.push(tokio::net::UnixStream::connect(daemon.socket()).await.unwrap());
    }
    let is_short = |line: &String| line.contains("cannot accept connections; it is tried again");
    eventually("it is short of descriptors", || daemon.lines().iter().any(is_short).then_some(()))
        .await;
    assert!(is_answered(daemon.api()).await, "who was let in is answered");
    drop((crowd, others));
    newcomers_are_answered_again(&daemon, None).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_who_says_nothing() {
    let mut daemon = Daemon::start_with(Setup::flags(&["--drain-limit", "1h"])).await;
    let crowd = silent(&daemon).await;
    // They have all been accepted once a later one is answered.
    assert!(is_answered(JobServiceClient::new(daemon.channel().await)).await);
    daemon.terminate();
    let begin = std::time::Instant::now();
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(begin.elapsed() < GREETING_LIMIT, "nobody was waited for: {:?}", begin.elapsed());
    drop(crowd);
}
