//! The first format of the task directory stays readable: a store that was written long ago.

use std::{fs, path::Path};

use jobwarden::api::{EndCause, Job, JobState, ListRequest};
use tempfile::TempDir;

use crate::harness::{Daemon, JobFacts as _, Setup};

/// A copy of the store in tests/data/v1, to be served.
fn old_store() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    copy(Path::new("tests/data/v1"), &folder.path().join("root"));
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the fixtures can be listed") {
        let entry = entry.expect("the fixtures can be listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a fixture can be copied");
        }
    }
}

async fn serve_old_store() -> (Daemon, Vec<Job>) {
    let folder = old_store();
    let root = folder.path().join("root");
    let daemon = Daemon::start_on(Setup::default(), root, folder).await;
    let listed = daemon.api().list(ListRequest::default()).await.expect("jobs can be listed");
    let listed = listed.into_inner();
    assert_eq!(listed.unreadable_count, 0);
    (daemon, listed.jobs)
}

fn named<'a>(jobs: &'a [Job], name: &str) -> &'a Job {
    let has_name = |job: &&Job| job.spec.as_ref().is_some_and(|spec| spec.display_name == name);
    jobs.iter().find(has_name).expect("the fixture is listed")
}

#[tokio::test]
async fn every_kind_of_end_in_an_old_store_is_told_as_it_was() {
    let (_daemon, jobs) = serve_old_store().await;
    let how = |name: &str| named(&jobs, name).how();
    assert_eq!(how("succeeded"), (JobState::Succeeded, EndCause::Exited));
    assert_eq!(how("failed"), (JobState::Failed, EndCause::Exited));
    assert_eq!(named(&jobs, "failed").exit_code(), Some(3));
    assert_eq!(how("killed"), (JobState::Failed, EndCause::Killed));
    assert_eq!(named(&jobs, "killed").kills.len(), 1);
    assert_eq!(how("cancelled"), (JobState::Cancelled, EndCause::Cancelled));
    let cancel = named(&jobs, "cancelled").cancel.clone().expect("the request is told");
    assert_eq!(cancel.reason, "no longer needed");
    assert_eq!(how("timed out"), (JobState::TimedOut, EndCause::TimedOut));
    assert_eq!(how("not launched"), (JobState::Failed, EndCause::LaunchFailed));
    let error = named(&jobs, "not launched").launch_error.clone().expect("the error is told");
    assert_eq!((error.stage.as_str(), error.errno_name.as_str()), ("exec", "ENOENT"));
}

#[tokio::test]
async fn output_and_labels_of_an_old_store_are_told_as_they_were() {
    let (daemon, jobs) = serve_old_store().await;
    let job = named(&jobs, "succeeded");
    let output = daemon.output(&job.job_id).await;
    assert_eq!(output.stdout(), b"out\ntail");
    assert_eq!(output.stderr(), b"err\n");
    assert_eq!(output.in_order(), b"out\nerr\ntail");
    assert_eq!(job.labels.len(), 1);
    assert_eq!(job.labels.get("stage").map(String::as_str), Some("done"));
    let spec = job.spec.as_ref().expect("the spec is told");
    assert_eq!((spec.priority, spec.stdin.len()), (3, 0));
}
