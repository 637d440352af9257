//! What all streams share: bounds on their number, and an end when the service drains.

use jobwarden::api::{
    GetServerInfoRequest, LogOffsets, TailLogRequest, WatchEventsRequest,
    job_service_client::JobServiceClient, tail_log_request::Start,
};
use tonic::Code;

use crate::harness::{
    Daemon, JobFacts as _, Refused, Setup, Watching, collect, shell, started_by, within,
};

#[tokio::test]
async fn streams_are_bounded_for_each_principal_and_a_closed_one_makes_room() {
    let flags = ["--max-streams", "4", "--max-streams-per-principal", "3"];
    let daemon = Daemon::start_with(Setup::flags(&flags)).await;
    let request = WatchEventsRequest::default;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Watching::open(&daemon, request()).await.unwrap());
    }
    let error = Refused::from(Watching::open(&daemon, request()).await.err().unwrap());
    assert_eq!(error.kind(), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
    assert!(error.retry_after.is_some());
    // Another principal has places of its own, as long as there are any.
    let mut socket = daemon.api_over_socket().await;
    let _fourth = socket.watch_events(request()).await.unwrap();
    let error = Refused::from(socket.watch_events(request()).await.unwrap_err());
    assert_eq!(error.metadata["limit"], "4");
    open.pop();
    let begin = std::time::Instant::now();
    while Watching::open(&daemon, request()).await.is_err() {
        assert!(begin.elapsed() < crate::harness::DEADLINE, "the place is free again");
    }
}

#[tokio::test]
async fn followed_logs_leave_descriptors_for_everything_else() {
    let home = tempfile::tempdir().unwrap();
    let binary = Some(started_by(home.path(), "prlimit --nofile=540:540"));
    let setup = Setup { binary, ..Setup::flags(&["--max-running-jobs", "2"]) };
    let root = home.path().join("root");
    let daemon = Daemon::start_on(setup, root, home).await;
    let id = daemon.exec(shell("echo on; echo err >&2; exec sleep 600")).await;
    daemon.printed(&id, "on\n").await;
    let request = || TailLogRequest { job_id: id.clone(), follow: true, ..Default::default() };
    let with_bytes = || WatchEventsRequest { include_log_data: true, ..Default::default() };
    // A third of the descriptors, three for each log, half of that for each principal.
    let (mut own, mut others, mut socket) =
        (Vec::new(), Vec::new(), daemon.api_over_socket().await);
    for _ in 0..30 {
        own.push(daemon.api().tail_log(request()).await.unwrap());
        others.push(socket.tail_log(request()).await.unwrap());
    }
    for status in [
        daemon.api().tail_log(request()).await.unwrap_err(),
        socket.watch_events(with_bytes()).await.unwrap_err(),
    ] {
        let error = Refused::from(status);
        assert_eq!(error.kind(), (Code::ResourceExhausted, "TOO_MANY_STREAMS"));
        assert!(error.message.contains("60 streams that read logs"), "{}", error.message);
    }
    // What needs no log is not concerned, and there are descriptors for it.
    let _watch = socket.watch_events(WatchEventsRequest::default()).await.unwrap();
    assert_eq!(daemon.run(shell("exit 3")).await.exit_code(), Some(3));
    own.pop();
    let begin = std::time::Instant::now();
    while daemon.api().watch_events(with_bytes()).await.is_err() {
        assert!(begin.elapsed() < crate::harness::DEADLINE, "the place is free again");
    }
}

#[tokio::test]
async fn ten_thousand_watchers_are_bounded_and_keep_nobody_waiting() {
    const WATCHERS: usize = 10_000;
    const MOST: usize = 500;
    let daemon =
        Daemon::start_with(Setup::flags(&["--max-streams-per-principal", &MOST.to_string()])).await;
    let mut opening = tokio::task::JoinSet::new();
    let channel = daemon.channel().await;
    for _ in 0..WATCHERS {
        let mut api = JobServiceClient::new(channel.clone());
        opening.spawn(async move { api.watch_events(WatchEventsRequest::default()).await });
    }
    let mut honest = daemon.api_over_socket().await;
    let (mut open, mut refused) = (Vec::new(), 0);
    while let Some(opened) = within("a watch or a refusal", opening.join_next()).await {
        match opened.unwrap() {
            Ok(stream) => open.push(stream),
            Err(status) => {
                assert_eq!(Refused::from(status).kind().1, "TOO_MANY_STREAMS");
                refused += 1;
            }
        }
        if (open.len() + refused) % 1000 == 0 {
            let request = GetServerInfoRequest {};
            let answer = within("an honest call", honest.get_server_info(request)).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
    }
    assert_eq!((open.len(), refused), (MOST, WATCHERS - MOST));
}

#[tokio::test]
async fn a_drained_log_says_in_its_trailers_where_it_goes_on() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(shell("printf abc; printf de >&2; exec sleep 600")).await;
    daemon.printed(&id, "abc").await;
    let request = TailLogRequest {
        job_id: id.clone(),
        follow: true,
        start: Some(Start::Offsets(LogOffsets { stdout: 1, stderr: 0 })),
        ..TailLogRequest::default()
    };
    let mut tail = daemon.api().tail_log(request).await.unwrap().into_inner();
    let mut bytes = 0;
    while bytes < 4 {
        let message = tail.message().await.unwrap().unwrap();
        if let Some(jobwarden::api::tail_log_response::Kind::Chunk(chunk)) = message.kind {
            bytes += chunk.end_offset - chunk.offset;
        }
    }
    daemon.terminate();
    let status = collect(tail).await.error.unwrap();
    let trailer = |name: &str| status.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(trailer("jobwarden-stdout-offset"), "3");
    assert_eq!(trailer("jobwarden-stderr-offset"), "2");
    let error = Refused::from(status);
    assert_eq!((error.metadata["stdout_offset"].as_str(), error.kind().1), ("3", "DRAINING"));
    daemon.ended().await;
    let daemon = daemon.restart().await;
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn thousands_of_streams_end_within_the_limit_each_with_its_token() {
    let mut daemon = Daemon::start_with(Setup::flags(&["--drain-limit", "5s"])).await;
    let id = daemon.exec(shell("echo on; exec sleep 600")).await;
    daemon.printed(&id, "on\n").await;
    let mut watches = Vec::new();
    for _ in 0..1500 {
        let request = WatchEventsRequest::default();
        watches.push(daemon.api().watch_events(request).await.unwrap().into_inner());
    }
    let mut tails = Vec::new();
    for _ in 0..500 {
        let request = TailLogRequest { job_id: id.clone(), follow: true, ..Default::default() };
        tails.push(daemon.api().tail_log(request).await.unwrap().into_inner());
    }
    let _silent = tokio::net::TcpStream::connect(daemon.tcp()).await.unwrap();
    let begin = std::time::Instant::now();
    daemon.terminate();
    let readers: Vec<_> = watches
        .into_iter()
        .map(|mut watch| {
            tokio::spawn(async move {
                loop {
                    match watch.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                        Err(status) => return Some(status),
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        let status = reader.await.unwrap().expect("each is told why it ends");
        assert!(status.metadata().get("jobwarden-resume-token").is_some(), "{status:?}");
    }
    for tail in tails {
        let error = Refused::from(collect(tail).await.error.unwrap());
        assert_eq!(error.kind(), (Code::Unavailable, "DRAINING"));
    }
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    let daemon = daemon.restart().await;
    daemon.delete(&id, true).await.unwrap();
}
