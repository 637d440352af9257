//! Folders written by earlier versions: every later one must read them as they were meant.
//!
//! tests/data/v1 was written by version 0.1.0 as it ran: a job of each kind, one that ran and one
//! that waited when the host went down. Such folders are never changed, only added to.

use jobwarden::api::{
    EndCause, ExecRequest, Job, JobFilter, JobSpec, JobState, ListRequest, LogChunk, LogEndReason,
    LogStream, TailLogRequest, tail_log_request::Start,
};

use crate::harness::{
    Daemon, JobFacts as _, StreamsOf as _, argv, millis, pairs, seconds, stored, within,
};

const SUCCEEDED: &str = "01m7yec7vz000awa3bsyef5p1f";
const FAILED: &str = "01m7yec7xm0001z8patm12k2vr";
const CANCELLED: &str = "01m7yec7xv000cx9aygtam7a17";
const RELABELLED: &str = "01m7yec7yb00062tta6v6j2a1t";
const KILLED: &str = "01m7yec7yn000467fqsh241gkh";
const NOT_LAUNCHED: &str = "01m7yec7za0002em3071yh76j1";
const TIMED_OUT: &str = "01m7yec7zf000a30xf7f5m7r84";
const LOST: &str = "01m7yec82w000fk19rpbb3c0pr";
const RUNNING: &str = "01m7yec85q000erbb6zcqjmjtx";
const QUEUED: &str = "01m7yec85y0005jk1b7jdm3yxa";
const REPEATED: &str = "01m7yfwxxy00051tq131wrt9q7";

/// All of them, newest first.
const IDS: [&str; 11] = [
    REPEATED,
    QUEUED,
    RUNNING,
    LOST,
    TIMED_OUT,
    NOT_LAUNCHED,
    KILLED,
    RELABELLED,
    CANCELLED,
    FAILED,
    SUCCEEDED,
];

/// A service on a copy of the stored root.
async fn daemon() -> Daemon {
    stored("v1").await
}

/// The jobs above, newest first, once the older days have been loaded.
async fn all(daemon: &Daemon) -> Vec<Job> {
    let job_ids: Vec<String> = IDS.map(str::to_owned).into();
    let filter = Some(JobFilter { job_ids, ..JobFilter::default() });
    let request = ListRequest { filter, ..ListRequest::default() };
    let listing = async {
        loop {
            let reply = daemon.api().list(request.clone()).await.unwrap().into_inner();
            assert_eq!(reply.unreadable_count, 0);
            if reply.jobs.len() == IDS.len() {
                return reply.jobs;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("all stored jobs", listing).await
}

#[tokio::test]
async fn every_stored_job_is_listed_as_status_shows_it() {
    let daemon = daemon().await;
    daemon.wait(QUEUED).await;
    let jobs = all(&daemon).await;
    assert_eq!(jobs.iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), IDS);
    for job in jobs {
        assert_eq!(daemon.status(&job.job_id).await, job);
    }
}

#[tokio::test]
async fn the_ends_of_stored_jobs_are_what_they_were() {
    let daemon = daemon().await;
    for (id, state, cause, exit_code, signal) in [
        (SUCCEEDED, JobState::Succeeded, EndCause::Exited, Some(0), None),
        (FAILED, JobState::Failed, EndCause::Exited, Some(3), None),
        (CANCELLED, JobState::Cancelled, EndCause::Cancelled, Some(0), None),
        (RELABELLED, JobState::Succeeded, EndCause::Exited, Some(0), None),
        (KILLED, JobState::Failed, EndCause::Killed, None, Some(9)),
        (NOT_LAUNCHED, JobState::Failed, EndCause::LaunchFailed, None, None),
        (TIMED_OUT, JobState::TimedOut, EndCause::TimedOut, None, Some(15)),
        (LOST, JobState::Lost, EndCause::Lost, None, None),
    ] {
        let job = daemon.status(id).await;
        assert_eq!((job.how(), job.exit_code(), job.signal()), ((state, cause), exit_code, signal));
        assert_eq!((job.attempt, job.owner.as_str()), (1, "anonymous"));
        assert!(job.end_time.is_some() && !job.message.is_empty());
        assert_eq!(job.start_time.is_some(), id != NOT_LAUNCHED);
    }
}

#[tokio::test]
async fn the_spec_of_a_stored_job_is_whole() {
    let daemon = daemon().await;
    let job = daemon.status(SUCCEEDED).await;
    let spec = job.spec.unwrap();
    assert!(spec.shell.starts_with("cat; sleep 0.02; echo $GREETING"));
    assert_eq!(spec.env, pairs([("GREETING", "hello")]));
    assert_eq!((spec.priority, spec.display_name.as_str()), (3, "a job that went well"));
    assert_eq!((spec.timeout, spec.stop_grace_period), (seconds(60), millis(1500)));
    assert_eq!(job.labels, pairs([("team", "red"), ("phase", "one")]));
    assert!(daemon.status(FAILED).await.spec.unwrap().merge_output);
    let create_time = job.create_time.unwrap();
    assert_eq!((create_time.seconds, create_time.nanos), (1_795_244_302, 207_583_322));
}

#[tokio::test]
async fn what_was_done_to_stored_jobs_is_told() {
    let daemon = daemon().await;
    let cancel = daemon.status(CANCELLED).await.cancel.unwrap();
    assert_eq!((cancel.reason.as_str(), cancel.grace_period), ("no longer wanted", seconds(5)));
    let actor = cancel.actor.unwrap();
    assert_eq!((actor.principal.as_str(), actor.peer.as_str()), ("anonymous", "127.0.0.1:60406"));
    let job = daemon.status(RELABELLED).await;
    assert_eq!(job.labels, pairs([("b", "2"), ("c", "3")]));
    assert_eq!(job.spec.unwrap().labels, pairs([("a", "1"), ("b", "1")]));
    let kills = daemon.status(KILLED).await.kills;
    assert_eq!(kills.iter().map(|kill| kill.signal).collect::<Vec<_>>(), [10, 9]);
    let error = daemon.status(NOT_LAUNCHED).await.launch_error.unwrap();
    assert_eq!((error.stage.as_str(), error.errno, &*error.errno_name), ("exec", 2, "ENOENT"));
}

#[tokio::test]
async fn the_output_of_stored_jobs_is_read_byte_for_byte() {
    let daemon = daemon().await;
    let output = daemon.output(SUCCEEDED).await;
    assert_eq!(output.stdout(), b"from input\nno newline \xe2\x82\xac\xff");
    assert_eq!(output.stderr(), b"hello\n");
    let streams: Vec<_> = output.chunks.iter().map(LogChunk::stream).collect();
    assert_eq!(streams, [LogStream::Stdout, LogStream::Stderr, LogStream::Stdout]);
    assert_eq!(output.reason(), LogEndReason::Terminal);
    let start = output.chunks[1].time.map(Start::SinceTime);
    let request = TailLogRequest { job_id: SUCCEEDED.to_owned(), start, ..Default::default() };
    let late = daemon.tail(request).await.chunks;
    assert_eq!(late.bytes_of(LogStream::Stdout), b"no newline \xe2\x82\xac\xff");
    assert_eq!(daemon.stdout(FAILED).await, "out\nerr\n");
    assert_eq!(daemon.stdout(CANCELLED).await, "on\nbye\n");
    assert_eq!(daemon.stdout(KILLED).await, "on\n");
    assert_eq!(daemon.output(RELABELLED).await.in_order(), b"");
}

#[tokio::test]
async fn a_stored_job_that_ran_is_lost_and_one_that_waited_runs() {
    let daemon = daemon().await;
    let lost = daemon.wait(RUNNING).await;
    assert_eq!(lost.how(), (JobState::Lost, EndCause::Lost));
    assert!(lost.start_time.is_some() && lost.exit_status.is_none());
    assert_eq!(daemon.stdout(RUNNING).await, "half done\n");
    assert_eq!(daemon.wait(QUEUED).await.how(), (JobState::Succeeded, EndCause::Exited));
    assert_eq!(daemon.stdout(QUEUED).await, "kept input\n");
}

#[tokio::test]
async fn a_new_job_comes_after_all_stored_ones() {
    let daemon = daemon().await;
    assert!(*daemon.exec(argv(&["true"])).await > *REPEATED);
}

#[tokio::test]
async fn a_request_id_of_a_stored_job_still_stands_for_it() {
    let daemon = daemon().await;
    let spec = JobSpec {
        working_dir: "/".to_owned(),
        env: pairs([("A", "b")]),
        stdin: "input".into(),
        labels: pairs([("team", "blue")]),
        display_name: "repeated".to_owned(),
        priority: 3,
        ..argv(&["cat"])
    };
    let request_id = "stored-1".to_owned();
    let request = ExecRequest { request_id, spec: Some(spec), ..ExecRequest::default() };
    let reply = daemon.api().exec(request).await.unwrap().into_inner();
    assert!(reply.deduplicated);
    assert_eq!(reply.job.unwrap().job_id, REPEATED);
}
