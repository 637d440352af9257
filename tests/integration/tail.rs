//! `TailLog` on what is there: where it begins, where it ends, and in which form.

use jobwarden::api::{
    LogEncoding, LogEndReason, LogOffsets, LogStream, TailLogRequest, log_chunk::Content,
    tail_log_request::Start,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::harness::{Daemon, Output, Setup, StreamsOf as _, argv, refused, shell};

/// A job that has written three lines to each stream.
async fn written(daemon: &Daemon) -> String {
    let script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done";
    let id = daemon.exec(shell(script)).await;
    daemon.wait(&id).await;
    id
}

async fn from(daemon: &Daemon, id: &str, start: Start) -> Output {
    let request = TailLogRequest { job_id: id.to_owned(), ..TailLogRequest::default() };
    daemon.tail(TailLogRequest { start: Some(start), ..request }).await
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout()), text(output.stderr()))
}

fn pair(stdout: &str, stderr: &str) -> (String, String) {
    (stdout.to_owned(), stderr.to_owned())
}

#[tokio::test]
async fn the_header_tells_where_it_begins_and_how_much_there_is() {
    let daemon = Daemon::start().await;
    let id = written(&daemon).await;
    let header = from(&daemon, &id, Start::LastBytes(3)).await.header.unwrap();
    assert_eq!(header.attempt, 1);
    assert_eq!(header.start_offsets, Some(LogOffsets { stdout: 15, stderr: 15 }));
    assert_eq!(header.sizes, Some(LogOffsets { stdout: 18, stderr: 18 }));
}

#[tokio::test]
async fn it_begins_where_the_caller_says() {
    let daemon = Daemon::start().await;
    let id = written(&daemon).await;
    let all = pair("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n");
    let offsets = |stdout, stderr| Start::Offsets(LogOffsets { stdout, stderr });
    for (start, expected) in [
        (Start::FromBeginning(true), all.clone()),
        (Start::LastLines(1), pair("out 3\n", "err 3\n")),
        (Start::LastLines(2), pair("out 2\nout 3\n", "err 2\nerr 3\n")),
        (Start::LastLines(99), all.clone()),
        (Start::LastLines(0), pair("", "")),
        (Start::LastBytes(4), pair("t 3\n", "r 3\n")),
        (Start::LastBytes(0), pair("", "")),
        (Start::LastBytes(u64::MAX), all.clone()),
        (offsets(7, 18), pair("ut 2\nout 3\n", "")),
        (Start::SinceTime(Timestamp { seconds: 0, nanos: 0 }), all.clone()),
        (Start::SinceTime(Timestamp { seconds: 4_000_000_000, nanos: 0 }), pair("", "")),
    ] {
        let output = from(&daemon, &id, start).await;
        assert_eq!(texts(&output), expected, "{start:?}");
        assert_eq!(output.reason(), LogEndReason::Terminal);
        assert_eq!(output.end_offsets(), (18, 18));
    }
}

#[tokio::test]
async fn a_last_line_without_a_newline_is_a_line() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("printf 'one\\ntwo\\nthree'")).await;
    daemon.wait(&id).await;
    assert_eq!(from(&daemon, &id, Start::LastLines(1)).await.stdout(), b"three");
    assert_eq!(from(&daemon, &id, Start::LastLines(2)).await.stdout(), b"two\nthree");
}

#[tokio::test]
async fn since_a_time_begins_at_the_first_byte_captured_then() {
    let daemon = Daemon::start().await;
    let script = "echo early; until [ -e go ]; do sleep 0.02; done; echo late; echo err >&2";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "early\n").await;
    let now = Timestamp::from(std::time::SystemTime::now());
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    daemon.wait(&id).await;
    let output = from(&daemon, &id, Start::SinceTime(now)).await;
    assert_eq!(texts(&output), pair("late\n", "err\n"));
}

#[tokio::test]
async fn one_stream_can_be_chosen() {
    let daemon = Daemon::start().await;
    let id = written(&daemon).await;
    for (stream, expected) in
        [(LogStream::Stdout, "out 1\nout 2\nout 3\n"), (LogStream::Stderr, "err 1\nerr 2\nerr 3\n")]
    {
        let request = TailLogRequest {
            job_id: id.clone(),
            streams: vec![stream.into()],
            ..TailLogRequest::default()
        };
        let output = daemon.tail(request).await;
        assert_eq!(output.in_order(), expected.as_bytes());
        assert!(output.chunks.iter().all(|chunk| chunk.stream() == stream));
    }
}

#[tokio::test]
async fn an_offset_beyond_the_end_of_complete_output_is_refused() {
    let daemon = Daemon::start().await;
    let job_id = written(&daemon).await;
    for (stdout, stderr, stream) in [(19, 0, "stdout"), (0, u64::MAX, "stderr")] {
        let start = Some(Start::Offsets(LogOffsets { stdout, stderr }));
        let request = TailLogRequest { job_id: job_id.clone(), start, ..Default::default() };
        let error = refused(daemon.api().tail_log(request).await);
        assert_eq!(error.kind(), (Code::OutOfRange, "OFFSET_BEYOND_END"));
        assert_eq!(error.metadata["stream"], stream);
        assert_eq!(error.metadata["size_bytes"], "18");
    }
}

#[tokio::test]
async fn an_offset_beyond_the_end_of_growing_output_waits_for_it() {
    let daemon = Daemon::start().await;
    let script = "echo 12345; until [ -e go ]; do sleep 0.02; done; echo 6789";
    let id = daemon.exec(shell(script)).await;
    daemon.printed(&id, "12345\n").await;
    let start = Some(Start::Offsets(LogOffsets { stdout: 8, stderr: 0 }));
    let request =
        TailLogRequest { job_id: id.clone(), start, follow: true, ..TailLogRequest::default() };
    let stream = daemon.api().tail_log(request).await.unwrap().into_inner();
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    assert_eq!(crate::harness::collect(stream).await.stdout(), b"89\n");
}

#[tokio::test]
async fn a_limit_ends_the_stream_where_a_new_call_goes_on() {
    let daemon = Daemon::start().await;
    let id = written(&daemon).await;
    let whole = daemon.output(&id).await;
    let (mut pieces, mut offsets) = (Vec::new(), LogOffsets::default());
    loop {
        let request = TailLogRequest {
            job_id: id.clone(),
            start: Some(Start::Offsets(offsets)),
            max_bytes: 7,
            ..TailLogRequest::default()
        };
        let output = daemon.tail(request).await;
        assert!(output.in_order().len() <= 7);
        offsets = output.end.as_ref().unwrap().offsets.unwrap();
        let is_last = output.reason() == LogEndReason::Terminal;
        assert!(is_last || output.reason() == LogEndReason::Limit);
        pieces.extend(output.chunks);
        if is_last {
            break;
        }
    }
    assert_eq!(pieces.bytes_of(LogStream::Stdout), whole.stdout());
    assert_eq!(pieces.bytes_of(LogStream::Stderr), whole.stderr());
}

#[tokio::test]
async fn text_never_splits_a_character_and_replaces_only_what_is_invalid() {
    let daemon = Daemon::start().await;
    // A character in three writes, an invalid byte, a character that is cut off by the end.
    let script = r"printf 'a\342'; sleep 0.1; printf '\202'; sleep 0.1; printf '\254b\377c'; 
                   sleep 0.1; printf '\303'";
    let id = daemon.exec(shell(script)).await;
    daemon.wait(&id).await;
    let request = TailLogRequest {
        job_id: id.clone(),
        encoding: LogEncoding::Text.into(),
        ..TailLogRequest::default()
    };
    let output = daemon.tail(request.clone()).await;
    let text: String = output
        .chunks
        .iter()
        .map(|chunk| match chunk.content.as_ref().unwrap() {
            Content::Text(text) => text.clone(),
            Content::Data(data) => panic!("bytes: {data:?}"),
        })
        .collect();
    assert_eq!(text, "a€b\u{fffd}c\u{fffd}");
    assert_eq!(output.end_offsets().0, 8, "offsets count raw bytes");
    // A limit in the middle of the character leaves the whole of it to the next call.
    let output = daemon.tail(TailLogRequest { max_bytes: 2, ..request.clone() }).await;
    assert_eq!((output.stdout(), output.end_offsets().0), (b"a".to_vec(), 1));
    let start = Some(Start::Offsets(LogOffsets { stdout: 1, stderr: 0 }));
    let rest = daemon.tail(TailLogRequest { start, ..request }).await;
    assert_eq!(rest.stdout(), "€b\u{fffd}c\u{fffd}".as_bytes());
}

#[tokio::test]
async fn both_streams_come_in_the_order_in_which_they_were_written() {
    let daemon = Daemon::start().await;
    let script = "for n in 1 2 3 4 5; do echo o$n; sleep 0.02; echo e$n >&2; sleep 0.02; done";
    let id = daemon.exec(shell(script)).await;
    daemon.wait(&id).await;
    let output = daemon.output(&id).await;
    let expected = (1..=5).map(|n| format!("o{n}\ne{n}\n")).collect::<Vec<_>>().concat();
    assert_eq!(String::from_utf8(output.in_order()).unwrap(), expected);
    let times: Vec<_> = output.chunks.iter().map(|chunk| chunk.time.unwrap()).collect();
    assert!(times.is_sorted_by_key(|time| (time.seconds, time.nanos)));
}

#[tokio::test]
async fn what_was_written_apart_comes_apart_each_with_its_time() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo one; sleep 0.3; echo two")).await;
    daemon.wait(&id).await;
    let output = daemon.output(&id).await;
    let offsets: Vec<_> = output.chunks.iter().map(|chunk| chunk.offset).collect();
    assert_eq!(offsets, [0, 4]);
    let times = output.chunks.iter().map(|chunk| chunk.time.unwrap());
    let nanos: Vec<i64> =
        times.map(|time| time.seconds * 1_000_000_000 + i64::from(time.nanos)).collect();
    assert!(nanos[1] - nanos[0] >= 250_000_000, "{nanos:?}");
}

#[tokio::test]
async fn a_log_that_somebody_cut_is_a_gap_and_not_silence() {
    let daemon = Daemon::start().await;
    let id = written(&daemon).await;
    let log = std::fs::File::options().write(true).open(daemon.folder(&id).join("stdout.log"));
    log.unwrap().set_len(6).unwrap();
    let output = daemon.output(&id).await;
    assert_eq!(texts(&output), pair("out 1\n", "err 1\nerr 2\nerr 3\n"));
    assert!(!output.gaps.is_empty());
    let (first, last) = (output.gaps.first().unwrap(), output.gaps.last().unwrap());
    assert_eq!((first.stream(), first.from, last.to), (LogStream::Stdout, 6, 18));
    assert_eq!(first.reason, "truncated");
    assert_eq!(output.end_offsets(), (18, 18));
}

#[tokio::test]
async fn a_queued_job_has_no_output_yet() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&gate).await;
    let id = daemon.exec(shell("echo on")).await;
    let output = daemon.output(&id).await;
    assert_eq!((output.in_order().len(), output.reason()), (0, LogEndReason::Snapshot));
    daemon.delete(&id, true).await.unwrap();
    daemon.delete(&gate, true).await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_never_was_is_refused() {
    let daemon = Daemon::start().await;
    let job_id = written(&daemon).await;
    let request = TailLogRequest { job_id: job_id.clone(), attempt: 1, ..Default::default() };
    assert_eq!(daemon.tail(request).await.stdout().len(), 18);
    let request = TailLogRequest { job_id, attempt: 2, ..TailLogRequest::default() };
    let error = refused(daemon.api().tail_log(request).await);
    assert_eq!(error.fields, ["attempt"]);
}
