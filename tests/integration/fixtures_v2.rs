//! Folders of format 2, written by version 0.1.0 as it ran: a job whose program was missing, one whose
//! supervisor was killed and followed by another, one that was killed, one that ran and one that waited
//! when the host went down. Such folders are never changed, only added to.

use jobwarden::api::{EndCause, JobState};

use crate::harness::{Daemon, JobFacts as _, stored};

const NOT_LAUNCHED: &str = "01m7zg5cbr0001ad8hk092vxc4";
const ADOPTED: &str = "01m7zg5ccs0000n660w3jk78pn";
const RUNNING: &str = "01m7zg5cry00045z13dc93eayq";
const KILLED: &str = "01m7zg5ct2000d7cajcvf44jb5";
const QUEUED: &str = "01m7zg5cty0005fwfe7z66dxm3";

#[tokio::test]
async fn the_ends_and_output_of_stored_jobs_are_what_they_were() {
    let daemon: Daemon = stored("v2").await;
    let job = daemon.status(NOT_LAUNCHED).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::LaunchFailed));
    let error = job.launch_error.unwrap();
    assert_eq!((error.stage.as_str(), error.errno), ("exec", 2));
    let job = daemon.status(ADOPTED).await;
    assert_eq!((job.how(), job.exit_code()), ((JobState::Failed, EndCause::Exited), Some(7)));
    let job = daemon.status(KILLED).await;
    assert_eq!((job.how(), job.signal()), ((JobState::Failed, EndCause::Signaled), Some(9)));
    assert_eq!(daemon.stdout(ADOPTED).await, "begin\nend\n");
}

#[tokio::test]
async fn a_stored_job_that_ran_is_lost_and_one_that_waited_runs() {
    let daemon: Daemon = stored("v2").await;
    let lost = daemon.wait(RUNNING).await;
    assert_eq!(lost.how(), (JobState::Lost, EndCause::Lost));
    assert!(lost.start_time.is_some() && lost.exit_status.is_none());
    assert_eq!(daemon.stdout(RUNNING).await, "half done\n");
    assert_eq!(daemon.wait(QUEUED).await.how(), (JobState::Succeeded, EndCause::Exited));
    assert_eq!(daemon.stdout(QUEUED).await, "it ran\n");
}
