//! Limits on output: what is kept, what is told of the rest, and what becomes of the job.

use jobwarden::api::{
    EndCause, JobSpec, JobState, LogGap, LogStream, OutputLimitAction, OutputLimits,
    TailLogRequest, tail_log_request::Start,
};

use crate::harness::{Daemon, JobFacts as _, eventually, pairs, refused, seconds, shell};

fn limited(most: i64, action: OutputLimitAction, script: &str) -> JobSpec {
    let limits = OutputLimits { max_bytes_per_stream: most, action: action.into() };
    JobSpec { output_limits: Some(limits), ..shell(script) }
}

/// Asserts that the gaps of a stream cover this range, each byte once, because of the limit.
fn assert_covered(gaps: &[LogGap], stream: LogStream, from: u64, to: u64) {
    let mut at = from;
    for gap in gaps.iter().filter(|gap| gap.stream() == stream) {
        assert_eq!((gap.from, gap.reason.as_str()), (at, "output_limit"));
        at = gap.to;
    }
    assert_eq!(at, to);
}

#[tokio::test]
async fn the_head_of_each_stream_is_kept_and_the_rest_is_counted_and_told() {
    let daemon = Daemon::start().await;
    let script = "head -c 3000000 /dev/zero; printf 0123456789abc >&2; exit 3";
    let spec = limited(10, OutputLimitAction::Truncate, script);
    let id = daemon.exec(spec.clone()).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(3), "the job was not kept waiting");
    assert_eq!(job.spec.as_ref().unwrap().output_limits, spec.output_limits);
    let (out, err) = (job.stdout.unwrap(), job.stderr.unwrap());
    assert_eq!((out.size_bytes, out.dropped_bytes), (3_000_000, 2_999_990));
    assert_eq!((err.size_bytes, err.dropped_bytes), (13, 3));
    assert_eq!(std::fs::read(daemon.folder(&id).join("stdout.log")).unwrap(), [0; 10]);
    let index = std::fs::metadata(daemon.folder(&id).join("output.index")).unwrap();
    assert!(index.len() < 64 * 32, "{} bytes for a handful of runs", index.len());

    let output = daemon.output(&id).await;
    assert_eq!((output.stdout(), output.stderr()), (vec![0; 10], b"0123456789".to_vec()));
    assert_covered(&output.gaps, LogStream::Stdout, 10, 3_000_000);
    assert_covered(&output.gaps, LogStream::Stderr, 10, 13);
    assert_eq!(output.end_offsets(), (3_000_000, 13));
    assert!(output.end.unwrap().complete);
}

#[tokio::test]
async fn output_within_its_limit_is_as_without() {
    let daemon = Daemon::start().await;
    let spec = limited(5, OutputLimitAction::Fail, "printf 12345; printf 54321 >&2");
    let job = daemon.run(spec).await;
    assert_eq!(job.how(), (JobState::Succeeded, EndCause::Exited));
    assert_eq!(job.stdout.unwrap().dropped_bytes, 0);
}

#[tokio::test]
async fn a_running_job_tells_what_it_dropped_so_far() {
    let daemon = Daemon::start().await;
    let spec = limited(4, OutputLimitAction::Truncate, "printf 0123456789; sleep 600");
    let id = daemon.exec(spec).await;
    let log = daemon.folder(&id).join("output.index");
    let two_records = || std::fs::metadata(&log).ok().filter(|index| index.len() >= 64);
    eventually("the record of what was dropped", two_records).await;
    let out = daemon.status(&id).await.stdout.unwrap();
    assert_eq!((out.size_bytes, out.dropped_bytes, out.complete), (10, 6, false));
    let output = daemon.output(&id).await;
    assert_eq!(output.stdout(), b"0123");
    assert_covered(&output.gaps, LogStream::Stdout, 4, 10);
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn the_last_lines_are_those_that_were_kept() {
    let daemon = Daemon::start().await;
    let spec = limited(8, OutputLimitAction::Truncate, "printf 'one\ntwo\n'; seq 100000");
    let id = daemon.exec(spec).await;
    daemon.wait(&id).await;
    let start = Some(Start::LastLines(1));
    let request = TailLogRequest { job_id: id, start, ..TailLogRequest::default() };
    let output = daemon.tail(request).await;
    assert_eq!(output.stdout(), b"two\n");
}

#[tokio::test]
async fn a_job_that_may_not_write_more_is_stopped_with_its_tree() {
    let daemon = Daemon::start().await;
    let mark = format!("MARK={}-loud", std::process::id());
    let (name, value) = mark.split_once('=').unwrap();
    let spec = JobSpec {
        env: pairs([(name, value)]),
        stop_grace_period: seconds(1),
        ..limited(1_000, OutputLimitAction::Fail, "sleep 600 & yes; sleep 600")
    };
    let id = daemon.exec(spec).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::OutputLimit));
    assert!(job.message.starts_with("Standard output exceeded its limit of 1000 bytes; "));
    assert_eq!(crate::harness::carriers(&mark), [0; 0]);
    assert!(job.stdout.unwrap().dropped_bytes > 0);
    assert_eq!(daemon.stdout(&id).await, "y\n".repeat(500));
    let stopping = daemon.slots(&id).into_iter().find(|slot| slot["kind"] == "stopping");
    assert_eq!(stopping.unwrap()["cause"], "output_limit");
}

#[tokio::test]
async fn a_job_that_wrote_too_much_and_exited_at_once_has_failed_all_the_same() {
    let daemon = Daemon::start().await;
    let job = daemon.run(limited(3, OutputLimitAction::Fail, "echo hello >&2")).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::OutputLimit));
    assert!(job.message.starts_with("Standard error exceeded its limit of 3 bytes; "));
}

#[tokio::test]
async fn a_limit_of_nothing_is_refused_by_its_field() {
    let daemon = Daemon::start().await;
    for most in [0, -1] {
        let spec = limited(most, OutputLimitAction::Truncate, "true");
        let error = refused(daemon.try_exec(spec).await);
        assert_eq!(error.fields, ["spec.output_limits.max_bytes_per_stream"]);
    }
}

#[tokio::test]
async fn the_head_and_the_newest_bytes_are_kept_within_the_limit_on_disk() {
    use std::os::unix::fs::MetadataExt as _;
    const MOST: u64 = 64 * 1024;
    let daemon = Daemon::start().await;
    let script = "seq 1 2000000; echo last";
    let spec = limited(65_536, OutputLimitAction::KeepTail, script);
    let id = daemon.exec(spec.clone()).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(0), "the job was not kept waiting");
    assert_eq!(job.spec.as_ref().unwrap().output_limits, spec.output_limits);
    let out = job.stdout.unwrap();
    let mut whole: Vec<u8> = Vec::new();
    for number in 1..=2_000_000 {
        whole.extend(format!("{number}\n").bytes());
    }
    whole.extend(b"last\n");
    assert_eq!(out.size_bytes, whole.len() as u64);
    let kept = out.size_bytes - out.dropped_bytes;
    assert!(kept <= MOST && kept > MOST * 7 / 8, "{kept}");
    for (file, most) in [("stdout.log", MOST + 3 * 4096), ("output.index", 64 * 1024)] {
        let room = std::fs::metadata(daemon.folder(&id).join(file)).unwrap().blocks() * 512;
        assert!(room <= most, "{file} takes {room} bytes");
    }

    let output = daemon.output(&id).await;
    assert_eq!(output.gaps.len(), 1);
    let (from, to) = (output.gaps[0].from, output.gaps[0].to);
    assert_covered(&output.gaps, LogStream::Stdout, MOST / 2, MOST / 2 + out.dropped_bytes);
    let at = |offset: u64| usize::try_from(offset).unwrap();
    assert_eq!(output.stdout(), [&whole[..at(from)], &whole[at(to)..]].concat());
    assert_eq!(output.end_offsets(), (out.size_bytes, 0));

    let request = TailLogRequest {
        job_id: id,
        start: Some(Start::LastLines(2)),
        ..TailLogRequest::default()
    };
    let tail = daemon.api().tail_log(request).await.unwrap().into_inner();
    assert_eq!(crate::harness::collect(tail).await.stdout(), b"2000000\nlast\n");
}

#[tokio::test]
async fn a_follower_sees_right_bytes_and_gaps_while_the_newest_are_kept() {
    let daemon = Daemon::start().await;
    let script = "for i in 1 2 3 4 5 6; do seq 1 60000; sleep 0.05; done";
    let id = daemon.exec(limited(32_768, OutputLimitAction::KeepTail, script)).await;
    let request = TailLogRequest { job_id: id.clone(), follow: true, ..Default::default() };
    let tail = daemon.api().tail_log(request).await.unwrap().into_inner();
    let output = crate::harness::collect(tail).await;
    let one: Vec<u8> = (1..=60_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let whole = one.repeat(6);
    let mut told = 0;
    for chunk in &output.chunks {
        let Some(jobwarden::api::log_chunk::Content::Data(data)) = &chunk.content else {
            panic!("no bytes")
        };
        let from = usize::try_from(chunk.offset).unwrap();
        assert_eq!(data[..], whole[from..from + data.len()]);
        told += data.len();
    }
    let missing: u64 = output.gaps.iter().map(|gap| gap.to - gap.from).sum();
    assert_eq!(told as u64 + missing, whole.len() as u64);
    assert!(output.gaps.iter().all(|gap| gap.reason == "output_limit"));
}
