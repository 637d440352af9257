//! Folders that somebody has damaged: reported, never hidden, never fatal.

use std::{fs, path::Path};

use jobwarden::api::{DeleteRequest, ListRequest, ListResponse, TailLogRequest, WaitRequest};
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, argv, carriers, eventually, refused, shell};

async fn list(daemon: &Daemon) -> ListResponse {
    daemon.api().list(ListRequest::default()).await.unwrap().into_inner()
}

/// A store with one job that `damage` was done to while the service was down, and one beside it.
async fn damaged(damage: impl Fn(&Path)) -> (Daemon, String, String) {
    let mut daemon = Daemon::start().await;
    let bad = daemon.exec(shell("echo bad")).await;
    let good = daemon.exec(shell("echo good")).await;
    daemon.wait(&bad).await;
    daemon.wait(&good).await;
    daemon.kill();
    damage(&daemon.folder(&bad));
    (daemon.restart().await, bad, good)
}

/// Checks that the damage is told for the one job and that nothing else suffers.
async fn check(damage: impl Fn(&Path)) {
    let (daemon, bad, good) = damaged(damage).await;
    let error = refused(daemon.try_status(&bad).await);
    assert_eq!(error.kind(), (Code::DataLoss, "RECORD_CORRUPT"), "{error:?}");
    assert_eq!(error.metadata["job_id"], bad);
    assert!(error.metadata["file"].contains(&bad), "{error:?}");
    let listing = async {
        // Older days join while they are being loaded.
        loop {
            let reply = list(&daemon).await;
            if reply.unreadable_count == 1 {
                return reply;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let reply = crate::harness::within("it is counted", listing).await;
    let ids: Vec<&String> = reply.jobs.iter().map(|job| &job.job_id).collect();
    assert_eq!(ids, [&good]);
    assert_eq!(daemon.stdout(&good).await, "good\n");
    assert_eq!(daemon.run(argv(&["true"])).await.exit_code(), Some(0));
    let told = || daemon.lines().iter().any(|line| line.contains(&bad)).then_some(());
    eventually("a log line about it", told).await;
    // The other calls say the same of it.
    let request = WaitRequest { job_id: bad.clone(), ..WaitRequest::default() };
    assert_eq!(refused(daemon.api().wait(request).await).code, Code::DataLoss);
    let request = TailLogRequest { job_id: bad.clone(), ..TailLogRequest::default() };
    assert_eq!(refused(daemon.api().tail_log(request).await).code, Code::DataLoss);
    assert_eq!(refused(daemon.try_cancel(&bad).await).code, Code::DataLoss);
    // And it can be removed.
    let request = DeleteRequest { job_id: bad.clone(), ..DeleteRequest::default() };
    daemon.api().delete(request).await.unwrap();
    assert_eq!(refused(daemon.try_status(&bad).await).code, Code::NotFound);
    assert_eq!(list(&daemon).await.unreadable_count, 0);
}

#[tokio::test]
async fn a_spec_that_is_no_json_is_told_of_its_job_alone() {
    check(|folder| fs::write(folder.join("spec.json"), "{\"version\": 1, ").unwrap()).await;
}

#[tokio::test]
async fn a_missing_spec_is_told_of_its_job_alone() {
    check(|folder| fs::remove_file(folder.join("spec.json")).unwrap()).await;
}

#[tokio::test]
async fn a_spec_with_a_rule_that_this_version_does_not_know_is_not_ignored() {
    check(|folder| {
        let path = folder.join("spec.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
        record["spec"]["run_as"] = "nobody".into();
        fs::write(&path, record.to_string()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_spec_of_a_later_version_is_told_of_its_job_alone() {
    check(|folder| {
        let path = folder.join("spec.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"version\":2", "\"version\":3", 1)).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_damaged_slot_before_a_claim_is_told_of_its_job_alone() {
    check(|folder| {
        let path = folder.join("state.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes[700] ^= 0x20;
        bytes[701] ^= 0x20;
        // The claim stands in the place of the end as well: both were synced.
        bytes.copy_within(0..512, 1536);
        fs::write(&path, bytes).unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_end_counts_whatever_became_of_the_slots_before_it() {
    let mut daemon = Daemon::start().await;
    let id = daemon.run(argv(&["false"])).await.job_id;
    let path = daemon.folder(&id).join("state.jsonl");
    daemon.kill();
    let mut bytes = fs::read(&path).unwrap();
    bytes[700] ^= 0x20;
    fs::write(&path, bytes).unwrap();
    let daemon = daemon.restart().await;
    assert_eq!(daemon.status(&id).await.exit_code(), Some(1));
}

#[tokio::test]
async fn the_spec_of_another_job_is_no_spec_of_this_one() {
    check(|folder| {
        let path = folder.join("spec.json");
        let id = folder.file_name().unwrap().to_str().unwrap();
        let other = format!("0{}", &id[1..]).replace(&id[20..], "000000");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen(id, &other, 1)).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_record_damaged_under_the_services_eyes_is_not_a_deletion() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    daemon.started(&id).await;
    let path = daemon.folder(&id).join("spec.json");
    let text = fs::read(&path).unwrap();
    fs::write(&path, "{").unwrap();
    let status = daemon.try_status(&id).await;
    if let Err(status) = status {
        assert_eq!(status.code(), Code::DataLoss);
    }
    fs::write(&path, text).unwrap();
    daemon.cancel(&id).await;
    daemon.wait(&id).await;
}

#[tokio::test]
async fn strange_things_in_the_store_are_left_alone() {
    let mut daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    daemon.wait(&id).await;
    daemon.kill();
    let day = daemon.folder(&id).parent().unwrap().to_owned();
    let strange = [day.join("notes.txt"), daemon.root().join("jobs/readme")];
    for path in &strange {
        fs::write(path, "x").unwrap();
    }
    fs::create_dir(day.join("not-an-id")).unwrap();
    fs::write(daemon.root().join("active/not-an-id"), "").unwrap();
    let daemon = daemon.restart().await;
    let reply = list(&daemon).await;
    assert_eq!((reply.jobs.len(), reply.unreadable_count), (1, 0));
    assert!(strange.iter().all(|path| path.exists()));
}

#[tokio::test]
async fn an_acceptance_that_was_cut_short_leaves_nothing_behind() {
    let mut daemon = Daemon::start().await;
    let id = daemon.run(argv(&["true"])).await.job_id;
    daemon.kill();
    // What a service leaves that dies between the folder and the spec in it.
    let folder = daemon.folder(&id);
    fs::remove_file(folder.join("spec.json")).expect("the spec can be removed");
    fs::write(daemon.root().join("active").join(&id), "").expect("the mark can be made");

    let daemon = daemon.restart().await;
    assert!(!folder.exists());
    let listed = daemon.api().list(ListRequest::default()).await.expect("jobs can be listed");
    let listed = listed.into_inner();
    assert_eq!((listed.jobs.len(), listed.unreadable_count), (0, 0));
}

#[tokio::test]
async fn a_job_whose_folder_somebody_removed_does_not_run_on_unseen() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("sleep 600")).await;
    daemon.started(&id).await;
    fs::remove_dir_all(daemon.folder(&id)).expect("the folder can be removed");
    let own = format!("JOBWARDEN_JOB_ID={id}");
    eventually("the end of its processes", || carriers(&own).is_empty().then_some(())).await;
    let error = refused(daemon.try_status(&id).await);
    assert_eq!(error.kind(), (Code::NotFound, "JOB_NOT_FOUND"), "{error:?}");
}
