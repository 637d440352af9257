//! LOG events: how much output there is, and with the bytes each byte once.

use std::fs;

use jobwarden::api::{
    EventType, JobEvent, LogStream, WatchEventsRequest, WatchStart, log_chunk::Content,
};

use crate::harness::{Daemon, Watching, argv, eventually, shell, within};

fn request(with_bytes: bool) -> WatchEventsRequest {
    WatchEventsRequest {
        event_types: [EventType::Log, EventType::Ended].map(i32::from).to_vec(),
        include_log_data: with_bytes,
        start: WatchStart::Now.into(),
        ..WatchEventsRequest::default()
    }
}

async fn open(daemon: &Daemon, request: WatchEventsRequest) -> Watching {
    Watching::open(daemon, request).await.expect("it may be watched")
}

/// What LOG events brought of each stream; their offsets are checked on the way.
#[derive(Default)]
struct Brought([Vec<u8>; 2]);

impl Brought {
    fn take(&mut self, event: &JobEvent) {
        let Some(log) = &event.log else { return };
        for chunk in &log.chunks {
            let place = usize::from(chunk.stream() == LogStream::Stderr);
            let Some(Content::Data(bytes)) = &chunk.content else { panic!("no bytes") };
            assert_eq!(chunk.offset, self.0[place].len() as u64, "each byte once, in order");
            self.0[place].extend(bytes);
        }
        let sizes = log.sizes.expect("every LOG event has sizes");
        assert_eq!([sizes.stdout, sizes.stderr], [0, 1].map(|place| self.0[place].len() as u64));
    }

    async fn up_to_the_end(&mut self, watch: &mut Watching, id: &str) {
        for event in watch.up_to(EventType::Ended, id).await {
            self.take(&event);
        }
    }
}

const BOTH: &str = "for i in 1 2 3 4 5 6 7 8; do echo out $i; echo err $i >&2; sleep 0.03; done";

#[tokio::test]
async fn the_bytes_of_both_streams_come_once_and_before_the_end() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, request(true)).await;
    let id = daemon.exec(shell(BOTH)).await;
    let mut brought = Brought::default();
    brought.up_to_the_end(&mut watch, &id).await;
    assert_eq!(brought.0[0], fs::read(daemon.folder(&id).join("stdout.log")).unwrap());
    assert_eq!(brought.0[1], fs::read(daemon.folder(&id).join("stderr.log")).unwrap());
}

#[tokio::test]
async fn whoever_asks_for_the_bytes_and_chooses_no_types_gets_all_of_them() {
    let daemon = Daemon::start().await;
    let request = WatchEventsRequest { event_types: Vec::new(), ..request(true) };
    let mut watch = open(&daemon, request).await;
    let id = daemon.exec(shell("echo on")).await;
    let events = watch.up_to(EventType::Ended, &id).await;
    let kinds: Vec<_> = events.iter().map(JobEvent::r#type).collect();
    let expected = [EventType::Created, EventType::Started, EventType::Log, EventType::Ended];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn sizes_alone_are_told_without_the_bytes_and_many_writes_together() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, request(false)).await;
    let id = daemon.exec(shell("seq 20000; exec sleep 600")).await;
    let size = 108_894;
    let mut last = 0;
    let mut count = 0;
    while last < size {
        let event = watch.event().await;
        let log = event.log.expect("only output is told");
        assert!(log.chunks.is_empty());
        let stdout = log.sizes.unwrap().stdout;
        assert!(stdout > last);
        last = stdout;
        count += 1;
    }
    assert!(last == size && count < 200, "{count} events");
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn a_token_in_the_middle_of_the_bytes_goes_on_at_the_next() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, request(true)).await;
    let id = daemon.exec(shell("head -c 400000 /dev/urandom; head -c 100000 /dev/zero >&2")).await;
    let mut brought = Brought::default();
    daemon.wait(&id).await;
    // One message at a time, each from a new call, and once from a new service.
    let mut daemon = daemon;
    let mut token = watch.token.clone();
    if token.is_empty() {
        brought.take(&watch.event().await);
        token = watch.token.clone();
    }
    for round in 0.. {
        let resumed = WatchEventsRequest { resume_token: token, ..request(true) };
        let mut watch = open(&daemon, resumed).await;
        let event = watch.event().await;
        brought.take(&event);
        token = watch.token.clone();
        if event.r#type() == EventType::Ended {
            assert!(round > 3, "it took several messages");
            break;
        }
        if round == 2 {
            daemon = daemon.kill_and_restart().await;
        }
    }
    assert_eq!(brought.0[0], fs::read(daemon.folder(&id).join("stdout.log")).unwrap());
    assert_eq!(brought.0[1], vec![0; 100_000]);
}

#[tokio::test]
async fn output_that_nobody_watched_is_brought_to_who_resumes() {
    let daemon = Daemon::start().await;
    let mut plain = open(&daemon, WatchEventsRequest::default()).await;
    plain.snapshot().await;
    let id = daemon.exec(shell(BOTH)).await;
    daemon.wait(&id).await;
    let daemon = daemon.kill_and_restart().await;
    let resumed = WatchEventsRequest { resume_token: plain.token.clone(), ..request(true) };
    let mut watch = open(&daemon, resumed).await;
    let mut brought = Brought::default();
    brought.up_to_the_end(&mut watch, &id).await;
    assert_eq!(brought.0[0], fs::read(daemon.folder(&id).join("stdout.log")).unwrap());
}

#[tokio::test]
async fn what_was_written_before_a_watch_began_is_not_news_to_it() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo old; until [ -e go ]; do sleep 0.02; done; echo new")).await;
    daemon.printed(&id, "old\n").await;
    let mut watch = open(&daemon, request(true)).await;
    fs::write(daemon.beside().join("go"), "").unwrap();
    let events = watch.up_to(EventType::Ended, &id).await;
    let log = events[0].log.as_ref().unwrap();
    assert_eq!((log.chunks[0].offset, log.chunks[0].end_offset), (4, 8));
}

#[tokio::test]
async fn the_output_of_a_deleted_job_is_a_gap() {
    let daemon = Daemon::start().await;
    let mut watch = open(&daemon, WatchEventsRequest::default()).await;
    watch.snapshot().await;
    let id = daemon.exec(shell("echo gone")).await;
    daemon.wait(&id).await;
    daemon.delete(&id, false).await.unwrap();
    let resumed = WatchEventsRequest { resume_token: watch.token.clone(), ..request(true) };
    let mut watch = open(&daemon, resumed).await;
    let event = watch.event().await;
    let log = event.log.as_ref().unwrap();
    assert!(log.chunks.is_empty());
    let gap = &log.gaps[0];
    assert_eq!((gap.from, gap.to, gap.reason.as_str()), (0, 5, "deleted"));
}

#[tokio::test]
async fn nothing_looks_at_logs_once_nobody_watches_them() {
    let daemon = Daemon::start().await;
    drop(open(&daemon, request(true)).await);
    let id = daemon.run(argv(&["true"])).await.job_id;
    // Another round works as the first did.
    let mut watch = open(&daemon, request(true)).await;
    let other = daemon.exec(shell("echo x")).await;
    let events = within("the end", watch.up_to(EventType::Ended, &other)).await;
    assert_eq!(events[0].r#type(), EventType::Log);
    assert_ne!(id, other);
    eventually("the job is there", || Some(())).await;
}
