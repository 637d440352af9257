//! Fuzz targets of what stands in one folder: a job's, the inbox, request ids.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::{ID, accepted, damaged, objects, with_store};
use crate::{
    job::{
        Event, Time,
        fuzzing::{number_of, parts, spec_with_files},
    },
    store::{
        Dropped, JobDir, layout, requests as request_ids, requests_record as asked, slots,
        spec_record,
    },
};

/// Texts about an actor that are not cut when they are written.
const UNCUT_BYTES_MAX: usize = 64;

/// A file of slots with these members, those that do not fit left blank.
fn slots_of(objects: &[Map<String, Value>]) -> Vec<u8> {
    objects.iter().flat_map(|members| slots::line(members).unwrap_or(slots::BLANK)).collect()
}

/// What is read of the small files by which a job is asked for something survives them.
pub(crate) fn requests(data: &[u8]) {
    let dropped = Time::from_nanos(7);
    let cancel = asked::stop_request(data, dropped);
    let actor = &cancel.actor;
    if [&actor.principal, &actor.peer, &actor.request_id]
        .iter()
        .all(|text| text.len() <= UNCUT_BYTES_MAX)
    {
        let bytes = asked::stop_request_bytes(&cancel);
        assert_eq!(asked::stop_request(&bytes, Time::from_nanos(8)), cancel);
    }
    if let Ok((labels, change)) = asked::labels(data) {
        let bytes = asked::labels_bytes(change, &labels);
        assert_eq!(asked::labels(&bytes).expect("labels are readable"), (labels, change));
    }
    if let Ok((number, timeout)) = asked::timeout(data) {
        let bytes = asked::timeout_bytes(number, timeout);
        assert_eq!(asked::timeout(&bytes).expect("a limit is readable"), (number, timeout));
    }
    if let Some(request) = asked::kill_request("abc", data) {
        let bytes = asked::kill_request_bytes(&request);
        let again = asked::kill_request("abc", &bytes).expect("a request is readable");
        assert_eq!(
            (again.signal, again.scope, again.time),
            (request.signal, request.scope, request.time,)
        );
    }
    let slots: Vec<_> = objects(data).into_iter().map(Some).collect();
    if let Ok((kills, count, _)) = asked::control(&slots) {
        assert!(kills.len() <= slots.len());
        if let Some(kill) = kills.last().filter(|_| count > 0)
            && let Some((place, slot)) = asked::kill_slot(count, kill)
        {
            assert!((1..=asked::KILLS_MAX).contains(&place));
            let parsed = slots::parse(&slot);
            let (again, number, _) = asked::control(&[parsed]).expect("an answer is readable");
            assert_eq!((again[0].signal, number), (kill.signal, count));
        }
    }
}

/// A folder with any files is read or refused, twice the same; a damaged slot never counts.
pub(crate) fn job_folder(data: &[u8]) {
    let [spec, state, control, cancel, labels, timeout, kill] = parts(data);
    let folder = tempfile::tempdir().expect("a folder");
    let id = spec_record::decode(spec).map_or(ID, |accepted| accepted.id);
    let path = folder.path().join(id.to_string());
    fs::create_dir(&path).expect("a job's folder");
    let state = slots_of(&objects(state));
    let files = [
        (layout::SPEC, spec),
        (layout::STATE, &state),
        (layout::CONTROL, &slots_of(&objects(control))),
        (layout::CANCEL, cancel),
        (layout::LABELS, labels),
        (layout::TIMEOUT, timeout),
        ("kill.abc", kill),
    ];
    for (name, bytes) in files {
        // An empty part stands for a file that is not there.
        if !bytes.is_empty() {
            fs::write(path.join(name), bytes).expect("a file of the job");
        }
    }
    let dir = JobDir::at(path.clone());
    let read = dir.read();
    let _ = (dir.kill_requests(), dir.labels_changes(), dir.timeout_request());
    if let Ok(job) = &read {
        assert_eq!(job.id(), id);
        assert!(job.revision > 0);
        assert!(dir.read().is_ok_and(|again| again == *job));
    }
    if let Ok(events) = dir.events()
        && !state.is_empty()
    {
        let bytes = damaged(&state, number_of(data));
        fs::write(path.join(layout::STATE), bytes).expect("a damaged file");
        if let Ok(found) = dir.events() {
            // An end counts, whatever became of the lines before it.
            let before = match found.split_last() {
                Some((end @ Event::Ended(_), before)) if events.last() == Some(end) => before,
                _ => &found,
            };
            assert!(events.starts_with(before));
        }
    }
}

/// A folder in the inbox is a submission or not yet one, whatever is in it.
pub(crate) fn inbox(data: &[u8]) {
    let [spec, stdin] = parts(data);
    with_store(|store| {
        let path = store.layout().inbox().join("dropped");
        fs::create_dir(&path).expect("a dropped folder");
        fs::write(path.join(layout::SPEC), spec).expect("a dropped spec");
        if !stdin.is_empty() {
            fs::write(path.join(layout::STDIN), stdin).expect("dropped input");
        }
        assert_eq!(store.dropped_names().expect("the inbox is readable"), ["dropped"]);
        match store.dropped("dropped".to_owned(), stdin.len() as u64) {
            Some(Dropped::Submission { name, draft, .. }) => {
                assert_eq!(name, "dropped");
                assert!(stdin.is_empty() || draft.stdin == stdin);
                let stdin = (!stdin.is_empty()).then(|| stdin.to_vec());
                assert!(spec_record::decode_dropped(spec, stdin).is_ok());
            }
            Some(Dropped::Unfinished) => {}
            other => panic!("{other:?}"),
        }
        fs::remove_dir_all(&path).expect("the folder is taken away");
    });
}

/// A file of a request id names a job or is refused.
pub(crate) fn request_file(data: &[u8]) {
    with_store(|store| {
        let folder = store.layout().requests();
        let mine = accepted(spec_with_files(Vec::new()));
        request_ids::write(store, "owner", "request", &mine).expect("a request id");
        let known = store.known_request("owner", "request");
        assert!(known.is_ok_and(|known| known.is_some_and(|known| known.id == mine.id)));
        fs::write(only_file(&folder), data).expect("a file of a request id");
        if let Ok(known) = store.known_request("owner", "request") {
            let known = known.expect("the file is there");
            let text = String::from_utf8_lossy(data);
            assert!(text.contains("job_id") || text.contains('\\'), "{known:?}");
        }
        fs::remove_file(only_file(&folder)).expect("the file goes away");
    });
}

fn only_file(folder: &Path) -> std::path::PathBuf {
    let mut entries = fs::read_dir(folder).expect("the folder is readable").flatten();
    entries.next().expect("a file").path()
}
