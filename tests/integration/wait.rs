//! Wait and `WaitMany`: bounded, driven by events, and cheap.

use std::time::{Duration, Instant};

use jobwarden::api::{
    JobFilter, JobSpec, JobState, StatusRequest, WaitManyRequest, WaitManyResponse, WaitMode,
    WaitRequest, WaitResponse, WaitUntil,
};
use tonic::{Code, Request};

use crate::harness::{
    DEADLINE, Daemon, Setup, argv, eventually, millis, pairs, refused, seconds, shell, within,
};

async fn wait(daemon: &Daemon, request: WaitRequest) -> WaitResponse {
    within("Wait", daemon.api().wait(request)).await.unwrap().into_inner()
}

async fn wait_many(daemon: &Daemon, request: WaitManyRequest) -> WaitManyResponse {
    within("WaitMany", daemon.api().wait_many(request)).await.unwrap().into_inner()
}

fn ids(reply: &WaitManyResponse) -> Vec<&str> {
    reply.jobs.iter().map(|job| job.job_id.as_str()).collect()
}

#[tokio::test]
async fn running_out_of_time_is_no_error() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    for timeout in [seconds(0), millis(30)] {
        let reply = wait(&daemon, WaitRequest { job_id: id.clone(), timeout, until: 0 }).await;
        assert!(!reply.ended);
        assert_eq!(reply.job.unwrap().state(), JobState::Running);
    }
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn a_wait_ends_before_the_deadline_of_its_call() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    let mut request = Request::new(WaitRequest { job_id: id.clone(), ..WaitRequest::default() });
    request.set_timeout(Duration::from_secs(2));
    let reply = within("Wait", daemon.api().wait(request)).await.unwrap().into_inner();
    assert!(!reply.ended, "it answers in time instead of being cut off");
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn the_servers_cap_ends_a_wait() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-wait", "1s"])).await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let request = WaitRequest { job_id: id.clone(), timeout: seconds(3600), until: 0 };
    assert!(!wait(&daemon, request).await.ended);
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn a_wait_for_the_start_answers_at_the_start() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let gate = daemon.exec(argv(&["sleep", "600"])).await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let until = WaitUntil::Started.into();
    let request = WaitRequest { job_id: id.clone(), timeout: seconds(0), until };
    assert!(!wait(&daemon, request.clone()).await.ended);
    let mut api = daemon.api();
    let request = WaitRequest { timeout: None, ..request };
    let waiting = tokio::spawn(async move { api.wait(request).await.unwrap().into_inner() });
    daemon.delete(&gate, true).await.unwrap();
    let reply = within("Wait", waiting).await.unwrap();
    assert!(reply.ended);
    assert_eq!(reply.job.unwrap().state(), JobState::Running);
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn a_wait_for_the_start_is_over_when_the_job_will_never_start() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["no-such-program"])).await;
    let until = WaitUntil::Started.into();
    assert!(wait(&daemon, WaitRequest { job_id: id, timeout: None, until }).await.ended);
}

#[tokio::test]
async fn the_end_is_told_once_the_output_is_complete() {
    let daemon = Daemon::start().await;
    for _ in 0..10 {
        let id = daemon.exec(shell("(sleep 0.05; head -c 100000 /dev/zero) & echo on")).await;
        let request = WaitRequest { job_id: id.clone(), ..WaitRequest::default() };
        let job = wait(&daemon, request).await.job.unwrap();
        let stdout = job.stdout.unwrap();
        assert_eq!((stdout.size_bytes, stdout.complete), (100_003, true));
        let log = std::fs::metadata(&stdout.path).unwrap();
        assert_eq!(log.len(), 100_003);
    }
}

#[tokio::test]
async fn any_and_all_of_several_jobs_can_be_waited_for() {
    let daemon = Daemon::start().await;
    let quick = daemon.exec(argv(&["true"])).await;
    let slow = daemon.exec(shell("until [ -e go ]; do sleep 0.02; done")).await;
    let job_ids = vec![slow.clone(), quick.clone()];
    let request = |mode: WaitMode, timeout| WaitManyRequest {
        job_ids: job_ids.clone(),
        mode: mode.into(),
        timeout,
        filter: None,
    };
    let any = wait_many(&daemon, request(WaitMode::Any, None)).await;
    assert!(any.done);
    assert_eq!(ids(&any), [&slow, &quick], "in the order of the request");
    assert_eq!(any.jobs[1].state(), JobState::Succeeded);
    let all = wait_many(&daemon, request(WaitMode::All, millis(30))).await;
    assert!(!all.done);
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    let all = wait_many(&daemon, request(WaitMode::Unspecified, None)).await;
    assert!(all.done && all.jobs.iter().all(|job| job.state() == JobState::Succeeded));
}

#[tokio::test]
async fn the_jobs_of_a_filter_can_be_waited_for() {
    let daemon = Daemon::start().await;
    let labels = pairs([("batch", "7")]);
    let mut batch = Vec::new();
    for n in 0..4 {
        let spec = JobSpec { labels: labels.clone(), ..shell(&format!("sleep 0.0{n}")) };
        batch.push(daemon.exec(spec).await);
    }
    let other = daemon.exec(argv(&["sleep", "600"])).await;
    let filter = Some(JobFilter { labels, ..JobFilter::default() });
    let reply = wait_many(&daemon, WaitManyRequest { filter, ..Default::default() }).await;
    batch.reverse();
    assert!(reply.done);
    assert_eq!(ids(&reply), batch, "newest first");
    daemon.delete(&other, true).await.unwrap();
}

#[tokio::test]
async fn a_wait_for_several_says_what_it_wants() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    let neither = WaitManyRequest::default();
    let both = WaitManyRequest {
        job_ids: vec![id.clone()],
        filter: Some(JobFilter::default()),
        ..WaitManyRequest::default()
    };
    for request in [neither, both] {
        let error = refused(daemon.api().wait_many(request).await);
        assert_eq!(error.kind(), (Code::InvalidArgument, "INVALID_SPEC"));
    }
    let missing = WaitManyRequest { job_ids: vec![id, "0".repeat(26)], ..Default::default() };
    assert_eq!(refused(daemon.api().wait_many(missing).await).code, Code::NotFound);
}

#[tokio::test]
async fn five_hundred_open_waits_cost_no_thread_and_all_hear_of_the_end() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("until [ -e go ]; do sleep 0.02; done")).await;
    daemon.started(&id).await;
    let threads = || std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count();
    let before = threads();
    let waits: Vec<_> = (0..500)
        .map(|_| {
            let (mut api, job_id) = (daemon.api(), id.clone());
            let request = WaitRequest { job_id, ..WaitRequest::default() };
            tokio::spawn(async move { api.wait(request).await.unwrap().into_inner() })
        })
        .collect();
    // Calls on one connection are taken in order, so this comes after all of them.
    for _ in 0..3 {
        daemon.api().status(StatusRequest { job_id: id.clone() }).await.unwrap();
    }
    // Threads that read the disk come and go; one for each wait would be hundreds.
    assert!(threads() < before + 100, "{} threads, {before} before", threads());
    std::fs::write(daemon.beside().join("go"), "").unwrap();
    for waiting in waits {
        assert!(within("a wait", waiting).await.unwrap().ended);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_its_wait() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    // The kernel's table of connections: nobody but root may look into the service itself.
    let own = format!(":{:04X}", daemon.tcp().port());
    let connections = || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        // Established, or closed by the caller alone.
        rows.filter(|row| row[1].ends_with(&own) && ["01", "08"].contains(&row[3])).count()
    };
    let before = connections();
    assert!(before > 0, "the connection of this test is seen");
    for _ in 0..20 {
        let channel = daemon.channel().await;
        let mut api = jobwarden::api::job_service_client::JobServiceClient::new(channel);
        let request = WaitRequest { job_id: id.clone(), ..WaitRequest::default() };
        let waiting = tokio::time::timeout(Duration::from_millis(10), api.wait(request));
        assert!(waiting.await.is_err(), "the job goes on");
    }
    eventually("the connections are gone", || (connections() <= before).then_some(())).await;
    let begin = Instant::now();
    daemon.delete(&id, true).await.unwrap();
    assert!(begin.elapsed() < DEADLINE);
}
