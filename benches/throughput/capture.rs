//! Output: captured beside a plain redirect, and followed as it is written.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use jobwarden::api::{self, log_chunk::Content, tail_log_response::Kind};

use crate::{
    figures::{Calls, Table},
    service::Service,
};

const WAIT: prost_types::Duration = prost_types::Duration { seconds: 600, nanos: 0 };
const FOLLOWED_LINES: usize = 200;
const PATTERN_ROUNDS: usize = 5;

/// The time that a command takes whose output goes into a file, and the same as a job.
pub(crate) async fn measure(folder: &Path, mebibytes: usize, table: &mut Table) {
    let bulk = format!("head -c {mebibytes}M /dev/zero");
    let line = "x".repeat(99);
    let lines = format!("yes {line} | head -c {}M", mebibytes / 4);
    let service = Service::start(folder, &["--durability", "process"]).await;
    for (name, script) in [("bulk", bulk), ("100-byte lines", lines)] {
        let direct = redirected(service.folder(), &script);
        let captured = as_a_job(&service, &script, Vec::new()).await;
        let ratio = captured.as_secs_f64() / direct.as_secs_f64();
        table.add(&format!("capture of {name}, time over a plain redirect"), ratio);
    }
    for (name, script) in [
        ("bulk", format!("head -c {mebibytes}M /dev/zero")),
        ("100-byte lines", format!("yes {line} | head -c {}M", mebibytes / 4)),
    ] {
        let ratio = cost_of_a_pattern(&service, &script).await;
        table.add(&format!("capture of {name} with a pattern, time over none"), ratio);
    }
    service.stop().await;
}

/// The median time with a pattern that never matches, over the median without one. Both are
/// taken in turns, so that what else the host does meets both.
async fn cost_of_a_pattern(service: &Service, script: &str) -> f64 {
    let pattern = api::OutputMatch {
        name: "never".to_owned(),
        pattern: "^(error|fatal): [a-z]+$".to_owned(),
        ..api::OutputMatch::default()
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..PATTERN_ROUNDS {
        times[0].push(as_a_job(service, script, Vec::new()).await);
        times[1].push(as_a_job(service, script, vec![pattern.clone()]).await);
    }
    let [without, with] = times.map(|mut times| {
        times.sort_unstable();
        times[PATTERN_ROUNDS / 2].as_secs_f64()
    });
    with / without
}

fn redirected(folder: &Path, script: &str) -> Duration {
    let path = folder.join("redirected");
    let file = std::fs::File::create(&path).expect("the folder can be written");
    let begin = Instant::now();
    let status = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::from(file)).status();
    assert!(status.is_ok_and(|status| status.success()));
    let elapsed = begin.elapsed();
    let _ = std::fs::remove_file(path);
    elapsed
}

async fn as_a_job(
    service: &Service,
    script: &str,
    output_matches: Vec<api::OutputMatch>,
) -> Duration {
    let shell = script.to_owned();
    let spec = Some(api::JobSpec { shell, output_matches, ..api::JobSpec::default() });
    let request = api::ExecRequest { spec, wait: Some(WAIT), ..api::ExecRequest::default() };
    let begin = Instant::now();
    let reply = service.client().exec(request).await.expect("a job is accepted").into_inner();
    let elapsed = begin.elapsed();
    let job = reply.job.expect("the job is told");
    assert_eq!(job.state(), api::JobState::Succeeded);
    let request = api::DeleteRequest { job_id: job.job_id, force: false, allow_missing: false };
    service.client().delete(request).await.expect("the job can be removed");
    elapsed
}

/// The time from a line that says when it was written to its arrival at a follower.
pub(crate) async fn follow(folder: &Path, table: &mut Table) {
    let service = Service::start(folder, &["--durability", "process"]).await;
    let script = format!("for i in $(seq {FOLLOWED_LINES}); do date +%s%N; sleep 0.01; done");
    let spec = Some(api::JobSpec { shell: script, ..api::JobSpec::default() });
    let request = api::ExecRequest { spec, ..api::ExecRequest::default() };
    let reply = service.client().exec(request).await.expect("a job is accepted").into_inner();
    let job_id = reply.job.map(|job| job.job_id).unwrap_or_default();
    let request = api::TailLogRequest { job_id, follow: true, ..api::TailLogRequest::default() };
    let stream = service.client().tail_log(request).await.expect("the job has output");
    let mut stream = stream.into_inner();
    let begin = Instant::now();
    let mut each = Vec::new();
    while let Ok(Some(message)) = stream.message().await {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Some(Kind::Chunk(chunk)) = message.kind else { continue };
        let Some(Content::Data(data)) = chunk.content else { continue };
        let text = String::from_utf8_lossy(&data).into_owned();
        let written = text.lines().filter_map(|line| line.parse::<u64>().ok());
        each.extend(written.map(|nanos| now.saturating_sub(Duration::from_nanos(nanos))));
    }
    let calls = Calls::of(each, begin.elapsed());
    table.add("line written to follower, p50 ms (the job's own `date` included)", calls.p50_ms);
    table.add("line written to follower, p99 ms", calls.p99_ms);
    service.stop().await;
}
