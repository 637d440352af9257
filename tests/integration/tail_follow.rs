//! `TailLog` that follows: from the queue to the end, never losing a byte.

use jobwarden::api::{LogEncoding, LogEndReason, TailLogRequest, tail_log_request::Start};
use tonic::Code;

use crate::harness::{
    Daemon, JobFacts as _, Refused, Setup, argv, collect, seconds, shell, within,
};

fn follow(id: &str) -> TailLogRequest {
    TailLogRequest { job_id: id.to_owned(), follow: true, ..TailLogRequest::default() }
}

#[tokio::test]
async fn it_waits_for_a_queued_job_and_ends_with_it() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let id = daemon.exec(shell("echo one; sleep 0.1; echo two; printf end; exit 3")).await;
    let stream = daemon.api().tail_log(follow(&id)).await.unwrap().into_inner();
    let reading = tokio::spawn(collect(stream));
    daemon.cancel(&gate).await;
    let output = reading.await.unwrap();
    assert_eq!(output.stdout(), b"one\ntwo\nend");
    assert_eq!(output.reason(), LogEndReason::Terminal);
    let end = output.end.unwrap();
    assert!(end.complete);
    assert_eq!(end.job.unwrap().exit_code(), Some(3));
}

#[tokio::test]
async fn it_brings_output_as_it_comes() {
    let daemon = Daemon::start().await;
    let script = "for n in 1 2 3; do echo $n; until [ -e go$n ]; do sleep 0.01; done; done";
    let id = daemon.exec(shell(script)).await;
    let mut stream = daemon.api().tail_log(follow(&id)).await.unwrap().into_inner();
    let mut output = crate::harness::Output::default();
    for n in 1..=3 {
        // The job goes on only once its line has been seen here.
        while !output.stdout().ends_with(format!("{n}\n").as_bytes()) {
            let message = within("a line", stream.message()).await.unwrap();
            output.take(message.expect("the job has not ended"));
        }
        std::fs::write(daemon.beside().join(format!("go{n}")), "").unwrap();
    }
    while let Some(message) = within("the end", stream.message()).await.unwrap() {
        output.take(message);
    }
    assert_eq!((output.stdout(), output.reason()), (b"1\n2\n3\n".to_vec(), LogEndReason::Terminal));
}

#[tokio::test]
async fn the_last_line_of_a_killed_job_is_not_lost() {
    let daemon = Daemon::start().await;
    for _ in 0..5 {
        let id = daemon.exec(shell("printf 'no newline'; kill -9 $$")).await;
        let output = daemon.tail(follow(&id)).await;
        assert_eq!(output.stdout(), b"no newline");
    }
}

#[tokio::test]
async fn many_lines_arrive_whole_while_they_are_written() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["seq", "1", "200000"])).await;
    let output = daemon.tail(follow(&id)).await;
    let expected = (1..=200_000).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    assert!(output.stdout() == expected.as_bytes(), "{} bytes came", output.stdout().len());
}

#[tokio::test]
async fn several_readers_get_the_same_bytes() {
    let daemon = Daemon::start().await;
    let id =
        daemon.exec(shell("for n in $(seq 50); do echo $n; echo e$n >&2; done; sleep 0.2")).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        let stream = daemon.api().tail_log(follow(&id)).await.unwrap().into_inner();
        readers.push(tokio::spawn(collect(stream)));
    }
    let expected = (1..=50).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    for reader in readers {
        let output = reader.await.unwrap();
        assert_eq!(String::from_utf8(output.stdout()).unwrap(), expected);
    }
}

#[tokio::test]
async fn a_reader_that_stops_keeps_neither_the_job_nor_other_readers() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("head -c 20000000 /dev/zero")).await;
    // It is opened and never read.
    let idle = daemon.api().tail_log(follow(&id)).await.unwrap().into_inner();
    let other = daemon.channel().await;
    let mut other = jobwarden::api::job_service_client::JobServiceClient::new(other);
    let stream = other.tail_log(follow(&id)).await.unwrap().into_inner();
    assert_eq!(collect(stream).await.stdout().len(), 20_000_000);
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    // And it still gets every byte once it reads.
    assert_eq!(collect(idle).await.stdout().len(), 20_000_000);
}

#[tokio::test]
async fn text_is_followed_without_split_characters() {
    let daemon = Daemon::start().await;
    let script = r"printf '\342'; sleep 0.1; printf '\202'; sleep 0.1; printf '\254\n'; sleep 0.1";
    let id = daemon.exec(shell(script)).await;
    let request = TailLogRequest { encoding: LogEncoding::Text.into(), ..follow(&id) };
    assert_eq!(daemon.tail(request).await.stdout(), "€\n".as_bytes());
}

#[tokio::test]
async fn it_can_begin_with_what_comes_next() {
    let daemon = Daemon::start().await;
    let script = "echo old; until [ -e go ]; do sleep 0.02; done; echo new";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "old\n").await;
    let request = TailLogRequest { start: Some(Start::LastLines(0)), ..follow(&id) };
    let stream = daemon.api().tail_log(request).await.unwrap().into_inner();
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    assert_eq!(collect(stream).await.stdout(), b"new\n");
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("sleep 2.5")).await;
    let request = TailLogRequest { heartbeat_interval: seconds(1), ..follow(&id) };
    let output = daemon.tail(request).await;
    assert!(output.heartbeats >= 1);
    assert_eq!(output.reason(), LogEndReason::Terminal);
}

#[tokio::test]
async fn more_streams_than_allowed_are_refused() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-streams", "2"])).await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let first = daemon.api().tail_log(follow(&id)).await.unwrap();
    let _second = daemon.api().tail_log(follow(&id)).await.unwrap();
    let third = daemon.api().tail_log(follow(&id)).await;
    let error = Refused::from(third.expect_err("there are two already"));
    assert_eq!(error.code, Code::ResourceExhausted);
    assert!(error.retry_after.is_some());
    drop(first);
    let opening = async {
        while daemon.api().tail_log(follow(&id)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("a place is free again", opening).await;
    daemon.delete(&id, true).await.unwrap();
}
