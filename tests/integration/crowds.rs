//! More connections than there is room for.

use jobwarden::api::{
    ExecRequest, ListRequest, WatchEventsRequest, WatchEventsResponse,
    job_service_client::JobServiceClient, watch_events_response::Kind,
};
use tokio::net::TcpStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::harness::{
    Api, DEADLINE, Daemon, Setup, bearer, eventually,
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

/// How often strangers connect that never say who they are.
const BARE: usize = 100;

/// The most connections, where that matters, and how many of them are for strangers alone.
const MOST: usize = 40;
const RESERVED: usize = 2;

/// A stream of events on a connection of its own.
struct Watch {
    events: Streaming<WatchEventsResponse>,
    /// Keeps the connection.
    _api: Api,
}

impl Watch {
    /// None if there is no room for the connection.
    async fn begin(daemon: &Daemon, token: &str) -> Option<Watch> {
        let mut api = over_tcp(daemon, Some(token)).await;
        let request = api.watch_events(WatchEventsRequest::default());
        let answer = within("an answer or a refusal", request).await;
        Some(Watch { events: answer.ok()?.into_inner(), _api: api })
    }

    /// False if the stream ends before.
    async fn hears_of(&mut self, id: &str) -> bool {
        let heard = async {
            while let Ok(Some(response)) = self.events.message().await {
                let Some(Kind::Event(event)) = response.kind else { continue };
                if event.job.is_some_and(|job| job.job_id == id) {
                    return true;
                }
            }
            false
        };
        within("the event or the end", heard).await
    }
}

async fn limited(connections: usize) -> Daemon {
    let setup = Setup::flags(&["--max-connections", &connections.to_string()]);
    Daemon::start_with(Setup { needs_token: true, ..setup }).await
}

async fn all_that_one_may_have(daemon: &Daemon, token: &str) -> Vec<Watch> {
    let mut crowd = Vec::new();
    while crowd.len() < MOST - RESERVED {
        crowd.push(Watch::begin(daemon, token).await.expect("there is room"));
    }
    crowd
}

/// Checks that none has been cut.
async fn all_hear_of_a_job(daemon: &Daemon, watches: &mut [Watch]) {
    let request = ExecRequest { spec: Some(shell("true")), ..ExecRequest::default() };
    let answer = daemon.api_over_socket().await.exec(request).await;
    let id = answer.unwrap().into_inner().job.unwrap().job_id;
    for watch in watches {
        assert!(watch.hears_of(&id).await, "the watch goes on");
    }
}

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
async fn of_few_connections_none_is_cut_and_the_next_one_waits_until_somebody_goes() {
    let daemon = limited(3).await;
    let [ada, bob] = ["ada", "bob"].map(|name| token(&daemon, name, "reader", &[]));
    // One principal may have all of them.
    let mut watches = Vec::new();
    for token in [&ada, &ada, &bob] {
        watches.push(Watch::begin(&daemon, token).await.expect("there is room"));
    }
    for _ in 0..BARE {
        let refused = TcpStream::connect(daemon.tcp()).await.unwrap();
        within("it is closed at once", farewell(refused)).await;
    }
    all_hear_of_a_job(&daemon, &mut watches).await;
    drop(watches);
    newcomers_are_answered_again(&daemon, Some(&ada)).await;
}

#[tokio::test]
async fn a_principal_that_takes_all_connections_keeps_no_other_out() {
    let daemon = limited(MOST).await;
    let [greedy, other] = ["greedy", "other"].map(|name| token(&daemon, name, "reader", &[]));
    let mut crowd = all_that_one_may_have(&daemon, &greedy).await;
    let mut others = Vec::new();
    for _ in 0..10 {
        let mut api = over_tcp(&daemon, Some(&other)).await;
        within("an answer", api.list(ListRequest::default())).await.unwrap();
        others.push(api);
    }
    // It has lost its newest ones, one for each of the others.
    for mut watch in crowd.split_off(crowd.len() - others.len()) {
        assert!(!watch.hears_of("no job").await);
    }
    all_hear_of_a_job(&daemon, &mut crowd).await;
}

#[tokio::test]
async fn strangers_that_connect_again_and_again_cut_nobody_who_was_let_in() {
    let daemon = limited(MOST).await;
    let reader = token(&daemon, "reader", "reader", &[]);
    let mut crowd = all_that_one_may_have(&daemon, &reader).await;
    for _ in 0..BARE {
        drop(TcpStream::connect(daemon.tcp()).await.unwrap());
    }
    let mut open = Vec::new();
    for _ in 0..BARE {
        open.push(TcpStream::connect(daemon.tcp()).await.unwrap());
    }
    // All but the last have made room for each other.
    for stream in open.drain(..BARE - RESERVED) {
        within("it is sent away", farewell(stream)).await;
    }
    all_hear_of_a_job(&daemon, &mut crowd).await;
}

#[tokio::test]
async fn a_principal_alone_keeps_its_connections_and_has_the_next_turned_away() {
    let daemon = limited(MOST).await;
    let reader = token(&daemon, "reader", "reader", &[]);
    let mut crowd = all_that_one_may_have(&daemon, &reader).await;
    for _ in 0..20 {
        assert!(Watch::begin(&daemon, &reader).await.is_none());
    }
    all_hear_of_a_job(&daemon, &mut crowd).await;
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
