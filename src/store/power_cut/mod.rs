//! A power cut at every moment of a life of two jobs: what was promised by then holds on whatever
//! the disk may have kept. And each sync is needed: without any one of them some promise breaks.

mod disk;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use self::disk::{Fate, Record};
use super::{JobRecord, Store, Submission};
use crate::{
    job::{
        Accepted, Actor, Claim, Confinement, Draft, DraftLimits, Durability, End, EndCause,
        EndState, EnvInheritance, Event, ExitStatus, JobId, OutputSize, ProcessIdentity, Started,
        StopRequest, Time,
    },
    sys::faults::{self, Change},
};

/// Disks that are made up for each cut, besides the one that kept nothing and that which kept all.
const DISKS: u64 = 12;

fn submission(number: u8) -> Submission {
    let id: JobId = format!("01m7yec7v{number}000awa3bsyef5p1f").parse().unwrap();
    let secrets = BTreeMap::from([("TOKEN".to_owned(), "secret".to_owned())]);
    let draft = Draft {
        argv: vec!["true".to_owned()],
        env_inheritance: Some(EnvInheritance::Minimal),
        secret_env: secrets.clone(),
        stdin: b"abc".to_vec(),
        ..Draft::default()
    };
    let limits = DraftLimits { stdin_bytes_max: 3, can_keep_tail: true };
    let (spec, secrets, stdin) = draft.check(&limits).unwrap();
    let accepted = Accepted {
        id,
        create_time: Time::from_nanos(1_790_000_000_000_000_000),
        owner: "uid:0".to_owned(),
        request_id: Some(format!("request-{number}")),
        digest: "00".to_owned(),
        spec,
        working_dir: "/".to_owned(),
        timeout: None,
        durability: Durability::Power,
        confinement: Confinement::default(),
    };
    Submission { accepted, secrets, stdin }
}

fn promise(what: &str, id: JobId) {
    faults::note(|| Change::Promised(format!("{what} {id}")));
}

fn process() -> ProcessIdentity {
    ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "0".repeat(36) }
}

fn ended() -> End {
    End {
        state: EndState::Failed,
        cause: EndCause::Exited,
        exit: Some(ExitStatus::Code(3)),
        message: "The process exited with code 3.".to_owned(),
        launch_error: None,
        time: Time::from_nanos(9),
        usage: None,
        stdout: OutputSize::default(),
        stderr: OutputSize::default(),
    }
}

/// One job runs to its end and is deleted, another is cancelled in the queue.
fn live(root: &Path) {
    let store = Store::open(root).unwrap();
    let [first, second] = [1, 2].map(submission);
    let (id, other) = (first.accepted.id, second.accepted.id);
    let dir = store.create(&first).unwrap();
    promise("accepted", id);

    let time = Time::from_nanos(5);
    let mut record = JobRecord::try_take(dir.clone()).unwrap().unwrap();
    let claim = Claim { attempt: 1, supervisor: process(), time, announces: true };
    record.append(&Event::Claimed(claim)).unwrap();
    promise("claimed", id);
    let started = Started { process: process(), time, cgroup: None };
    record.append(&Event::Starting(started.clone())).unwrap();
    record.append(&Event::Started(started)).unwrap();
    dir.remove_secrets().unwrap();
    promise("started", id);

    let second_dir = store.create(&second).unwrap();
    promise("accepted", other);
    let actor = Actor { principal: "uid:0".to_owned(), ..Actor::default() };
    let request = StopRequest { time, reason: "enough".to_owned(), actor, grace_period: None };
    second_dir.request_cancel(&request, true).unwrap();
    promise("cancelled", other);
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    second_dir.replace_labels(1, &labels, true).unwrap();
    promise("labelled", other);
    second_dir.request_timeout(1, Some(Duration::from_secs(7)), true).unwrap();
    promise("limited", other);

    record.append(&Event::Ended(ended())).unwrap();
    promise("ended", id);
    drop(record);
    store.unmark_active(id);
    promise("deleting", id);
    store.hide(id, true).unwrap();
    promise("deleted", id);
}

/// What is wrong with a disk on which this much had been promised.
fn fault(root: &Path, promises: &std::collections::HashSet<&str>) -> Option<String> {
    let store = match Store::open(root) {
        Ok(store) => store,
        Err(error) => return Some(format!("the store cannot be opened: {error}")),
    };
    let fail = |what: &str, id: JobId| Some(format!("{id}: {what}"));
    for day in store.days().unwrap() {
        for id in store.ids_of_day(&day).unwrap() {
            let read = store.job_dir(id).read();
            if let Err(error) = read
                && !store.is_unfinished(id)
            {
                return fail(&format!("is half: {error}"), id);
            }
        }
    }
    for number in [1, 2] {
        let Submission { accepted, secrets, stdin } = submission(number);
        let id = accepted.id;
        let has = |what: &str| promises.contains(format!("{what} {id}").as_str());
        let dir = store.job_dir(id);
        if has("deleted") {
            if dir.path().exists() {
                return fail("is there again", id);
            }
            continue;
        }
        if !has("accepted") || has("deleting") {
            continue;
        }
        let job = match dir.read() {
            Ok(job) => job,
            Err(error) => return fail(&format!("is not there: {error}"), id),
        };
        let request_id = accepted.request_id.clone().unwrap();
        let known = store.known_request(&accepted.owner, &request_id).ok().flatten();
        if job.accepted != Arc::new(accepted) || dir.stdin().ok() != Some(stdin) {
            return fail("is another", id);
        }
        if known.is_none_or(|known| known.id != id) {
            return fail("has lost its request id", id);
        }
        if !has("claimed") && dir.secrets().ok().is_none_or(|kept| kept.0 != secrets.0) {
            return fail("has lost its secrets", id);
        }
        if has("claimed") && job.state == crate::job::State::Queued {
            return fail("would run twice", id);
        }
        if has("ended") && job.state.end() != Some(&ended()) {
            return fail("has not ended", id);
        }
        if has("cancelled") && job.cancel.as_ref().is_none_or(|cancel| cancel.reason != "enough") {
            return fail("is not cancelled", id);
        }
        if has("labelled") && job.labels.len() != 1 {
            return fail("has no labels", id);
        }
        if has("limited") && job.timeout_change.is_none() {
            return fail("has no limit", id);
        }
    }
    None
}

/// Numbers that look random and come again (splitmix64).
fn fates(mut seed: u64) -> impl FnMut() -> Fate {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        match (mixed ^ (mixed >> 31)) % 6 {
            0 | 1 => Fate::Whole,
            2 => Fate::Begun,
            3 => Fate::SizeOnly,
            _ => Fate::Nothing,
        }
    }
}

/// What breaks first, if any cut breaks anything.
fn first_fault(record: &Record, original: &Path, ignored: Option<usize>) -> Option<String> {
    let begin = ignored.map_or(1, |place| place + 1);
    for cut in begin..=record.len() {
        for disk in 0..DISKS + 2 {
            let root = tempfile::tempdir().unwrap();
            let paths = (original, root.path());
            match disk {
                0 => record.build(paths, cut, ignored, || Fate::Nothing),
                1 => record.build(paths, cut, ignored, || Fate::Whole),
                seed => record.build(paths, cut, ignored, fates(seed * 1_000 + cut as u64)),
            }
            if let Some(fault) = fault(&root.path().join("root"), &record.promises(cut)) {
                let last = record.describe(cut - 1);
                return Some(format!("cut behind {last}, disk {disk}: {fault}"));
            }
        }
    }
    None
}

fn recorded() -> (tempfile::TempDir, Record) {
    let folder = tempfile::tempdir().unwrap();
    let ((), changes) = faults::record(|| live(&folder.path().join("root")));
    (folder, Record::new(changes))
}

#[test]
fn what_was_promised_holds_after_a_power_cut_at_any_moment() {
    let (folder, record) = recorded();
    assert_eq!(first_fault(&record, folder.path(), None), None);
}

#[test]
fn without_any_one_sync_some_promise_breaks() {
    let (folder, record) = recorded();
    let needless: Vec<String> = record
        .syncs()
        .into_iter()
        .filter(|sync| first_fault(&record, folder.path(), Some(*sync)).is_none())
        .map(|sync| record.describe(sync))
        .collect();
    assert!(needless.is_empty(), "syncs that no promise needs: {needless:#?}");
}
