//! Events and their lines.

use std::time::Duration;

use super::*;
use crate::job::{
    Actor, Claim, Command, End, EndCause, EndState, ExitStatus, KillRecord, OutputSize,
    ProcessIdentity, Running, Started, StopCause, StopRequest, Time,
};
use crate::store::{MatchRecord, Stream};

pub(in crate::store::journal) fn job(script: &str) -> Job {
    let time = Time::from_millis(1_790_000_000_123);
    let accepted = json!({
        "version": 1, "job_id": JobId::first_of(time).to_string(),
        "create_time": time.to_string(), "owner": "uid:0", "request_id": "r", "digest": "d",
        "durability": "process", "working_dir": "/", "timeout": "5s",
        "spec": {"shell": script, "env": {"A": "b\n\""}, "labels": {"team": "web"}},
    });
    let accepted = spec_record::decode(accepted.to_string().as_bytes()).unwrap();
    let process = ProcessIdentity { pid: 7, start_ticks: 9, boot_id: "b".to_owned() };
    let running = Running {
        claim: Claim { attempt: 1, supervisor: process.clone(), time, announces: true },
        started: Started { process, time, cgroup: None },
        stop: Some(StopCause::Cancel),
    };
    let end = End {
        state: EndState::Cancelled,
        cause: EndCause::Cancelled,
        exit: Some(ExitStatus::Code(1)),
        message: "Cancelled.".to_owned(),
        launch_error: None,
        time,
        usage: None,
        stdout: OutputSize { size_bytes: 5, dropped_bytes: 1 },
        stderr: OutputSize::default(),
    };
    let actor = Actor { principal: "uid:0".to_owned(), ..Actor::default() };
    let stop = StopRequest {
        time,
        reason: "enough".to_owned(),
        actor: actor.clone(),
        grace_period: Some(Duration::from_secs(1)),
    };
    let kill = KillRecord { time, signal: 15, actor, delivered: true, request: "k1".to_owned() };
    Job {
        accepted: Arc::new(accepted),
        state: State::Ended { running: Some(running), attempt: 1, end },
        revision: 9,
        labels: BTreeMap::from([("team".to_owned(), "db".to_owned())]),
        cancel: Some(stop),
        kills: vec![kill],
        timeout_change: Some(TimeoutChange { number: 2, timeout: None, answer: Some(true) }),
    }
}

fn event(job: Job) -> JobEvent {
    JobEvent {
        sequence: 41,
        kind: EventKind::Ended,
        time: Time::from_nanos(5),
        previous: Some(StateKind::Running),
        id: job.id(),
        revision: job.revision,
        job: Some(Arc::new(job)),
        outline: None,
        output: Some(OutputSpan { attempt: 1, from: [0, 3], to: [5, 3] }),
        matched: Some(MatchRecord {
            number: 3,
            time: Time::from_nanos(7),
            name: "ready".to_owned(),
            stream: Stream::Stderr,
            offset: 5,
            end_offset: 9,
            text: "a\n\"b".to_owned(),
        }),
    }
}

#[test]
fn an_event_survives_its_line_and_a_damaged_line_does_not_count() {
    let event = event(job("true"));
    let told = Told {
        revision: 9,
        kind: StateKind::Running,
        facts: 77,
        attempt: 1,
        logged: [5, u64::MAX],
        matches: 4,
    };
    let line = encode(&event, Some(&told));
    let line = line.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'));
    assert_eq!(decode(line, |_| None).unwrap(), event);
    let summary = summary(line).unwrap();
    assert_eq!((summary.sequence, summary.revision), (41, 9));
    assert_eq!(summary.told.unwrap().told(), Some(told));
    for place in [0, line.len() / 2, line.len() - 2] {
        let mut bytes = line.as_bytes().to_vec();
        bytes[place] ^= 1;
        let damaged = String::from_utf8_lossy(&bytes).into_owned();
        assert!(decode(&damaged, |_| None).is_err(), "{place}");
    }
}

#[test]
fn what_was_known_of_a_job_without_a_folder_survives_too() {
    let outline = Outline {
        kind: StateKind::Failed,
        create_time: Time::from_nanos(7),
        owner: "uid:0".into(),
        labels: Arc::new(BTreeMap::from([("team".to_owned(), "d\nb".to_owned())])),
    };
    let previous = Some(StateKind::Running);
    let event = event(job("true"));
    let event = JobEvent { job: None, outline: Some(outline), previous, ..event };
    assert_eq!(decode(encode(&event, None).trim_end(), |_| None).unwrap(), event);
}

#[test]
fn a_long_spec_is_abridged_and_found_in_the_folder() {
    let job = job(&"x".repeat(100_000));
    let accepted = Arc::clone(&job.accepted);
    let event = event(job);
    let line = encode(&event, None);
    assert!(line.len() < 8 * 1024);
    let line = line.trim_end();
    assert_eq!(decode(line, |_| Some(accepted)).unwrap(), event);
    let alone = decode(line, |_| None).unwrap().job.unwrap();
    let Command::Shell(script) = &alone.accepted.spec.command else { panic!("no script") };
    assert_eq!(script.len(), 256);
    assert_eq!(alone.labels["team"], "db");
}
