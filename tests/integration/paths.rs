//! Tricks with paths: whatever stands where a file or a folder is expected, the answer comes at
//! once, names it, and nothing outside is touched. Also: the modes of all that is made.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use jobwarden::api::{JobSpec, ListRequest, RerunRequest};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tonic::Code;

use crate::harness::{Daemon, JobFacts as _, Setup, argv, eventually, refused, shell};

/// The most bytes of a file of variables.
const ENV_FILE_BYTES_MAX: usize = 1024 * 1024;

fn fifo(path: &Path) -> PathBuf {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    path.to_owned()
}

fn folder(path: &Path) -> PathBuf {
    fs::create_dir(path).unwrap();
    path.to_owned()
}

fn link(to: &Path, path: &Path) -> PathBuf {
    symlink(to, path).unwrap();
    path.to_owned()
}

#[tokio::test]
async fn only_a_plain_file_of_bounded_size_is_a_file_of_variables() {
    let daemon = Daemon::start().await;
    let beside = |name: &str| daemon.beside().join(name);
    let plain = beside("plain");
    fs::write(&plain, "A=1\n").unwrap();
    fs::write(beside("large"), vec![b'#'; ENV_FILE_BYTES_MAX + 1]).unwrap();
    fs::write(beside("largest"), vec![b'#'; ENV_FILE_BYTES_MAX]).unwrap();
    let tricks = [
        fifo(&beside("fifo")),
        folder(&beside("folder")),
        link(&plain, &beside("link")),
        link(&beside("loop"), &beside("loop")),
        PathBuf::from("/dev/zero"),
        PathBuf::from("/dev/tty"),
        plain.join("below"),
        beside("large"),
        daemon.socket(),
    ];
    for path in tricks {
        let name = path.to_str().unwrap().to_owned();
        let job = daemon.run(JobSpec { env_files: vec![name.clone()], ..shell("true") }).await;
        let error = job.launch_error.clone().unwrap_or_else(|| panic!("{name} was read: {job:?}"));
        assert_eq!(error.stage, "env_file", "{name}");
        assert!(job.message.contains(&name), "{}", job.message);
    }
    let folder = daemon.beside().file_name().unwrap().to_str().unwrap();
    let roundabout = beside("..").join(folder).join("plain");
    let files = [roundabout, beside("largest")].map(|path| path.to_str().unwrap().to_owned());
    let id = daemon.exec(JobSpec { env_files: files.into(), ..shell("echo $A") }).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "1\n");
}

#[tokio::test]
async fn what_is_no_directory_is_no_working_directory_and_links_lead_to_one() {
    let daemon = Daemon::start().await;
    let beside = |name: &str| daemon.beside().join(name);
    let target = folder(&beside("target"));
    fs::write(beside("file"), "").unwrap();
    let tricks = [
        (beside("file"), "ENOTDIR"),
        (fifo(&beside("fifo")), "ENOTDIR"),
        (link(&beside("gone"), &beside("dangling")), "ENOENT"),
        (link(&beside("loop"), &beside("loop")), "ELOOP"),
        (PathBuf::from("/dev/null"), "ENOTDIR"),
        (target.join("../missing"), "ENOENT"),
    ];
    for (path, errno) in tricks {
        let name = path.to_str().unwrap().to_owned();
        let job = daemon.run(JobSpec { working_dir: name.clone(), ..shell("true") }).await;
        let error = job.launch_error.clone().unwrap_or_else(|| panic!("{name}: {job:?}"));
        assert_eq!((error.stage.as_str(), error.errno_name.as_str()), ("working_dir", errno));
        assert!(job.message.contains(&name), "{}", job.message);
    }
    for path in [link(&target, &beside("link")), target.join("../target")] {
        let spec = JobSpec { working_dir: path.to_str().unwrap().to_owned(), ..shell("pwd -P") };
        let id = daemon.exec(spec).await;
        daemon.wait(&id).await;
        assert_eq!(daemon.stdout(&id).await.trim_end(), target.to_str().unwrap());
    }
}

#[tokio::test]
async fn only_plain_files_of_a_dropped_folder_are_read() {
    let daemon = Daemon::start().await;
    let beside = |name: &str| daemon.beside().join(name);
    let spec = r#"{"shell": "cat"}"#;
    fs::write(beside("spec"), spec).unwrap();
    fs::write(beside("private"), "private\n").unwrap();
    let filled = |name: &str| {
        let path = folder(&beside(name));
        fs::write(path.join("spec.json"), spec).unwrap();
        path
    };
    link(&beside("spec"), &folder(&beside("spec-link")).join("spec.json"));
    fifo(&folder(&beside("spec-fifo")).join("spec.json"));
    folder(&folder(&beside("spec-folder")).join("spec.json"));
    link(Path::new("/dev/zero"), &folder(&beside("spec-device")).join("spec.json"));
    link(&beside("private"), &filled("stdin-link").join("stdin"));
    fifo(&filled("stdin-fifo").join("stdin"));
    folder(&filled("stdin-folder").join("stdin"));
    let names = ["spec-link", "spec-fifo", "spec-folder", "spec-device"];
    let names = [&names[..], &["stdin-link", "stdin-fifo", "stdin-folder"]].concat();
    let dropped: Vec<PathBuf> = names
        .iter()
        .map(|name| {
            let path = daemon.root().join("inbox").join(name);
            fs::rename(beside(name), &path).unwrap();
            path
        })
        .collect();
    for path in dropped {
        let answer = || fs::read_to_string(path.join("rejected")).ok();
        let why = eventually(&format!("an answer in {}", path.display()), answer).await;
        assert!(why.contains("cannot be read"), "{}: {why}", path.display());
        assert!(!path.join("accepted").exists());
    }
}

#[tokio::test]
async fn a_dropped_folder_with_a_link_for_an_answer_is_answered_already() {
    let daemon = Daemon::start().await;
    let target = daemon.beside().join("target");
    let spec = r#"{"argv": ["true"]}"#;
    let fill = |name: &str| {
        let filling = folder(&daemon.beside().join(name));
        fs::write(filling.join("spec.json"), spec).unwrap();
        filling
    };
    let drop_in = |filling: PathBuf| {
        let path = daemon.root().join("inbox").join(filling.file_name().unwrap());
        fs::rename(filling, &path).unwrap();
        path
    };
    for answer in ["accepted", "rejected"] {
        let filling = fill(answer);
        link(&target, &filling.join(answer));
        drop_in(filling);
    }
    // It comes after them, so they have been looked at once it is answered.
    let last = drop_in(fill("zz-last")).join("accepted");
    let id = eventually("an answer", || fs::read_to_string(&last).ok()).await;
    let jobs = daemon.api().list(ListRequest::default()).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.iter().map(|job| job.job_id.as_str()).collect::<Vec<_>>(), [id.trim()]);
    assert!(!target.exists());
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_jobs_files_is_not_followed() {
    let mut daemon = Daemon::start().await;
    let private = daemon.beside().join("private");
    let content = "nobody's business";
    fs::write(&private, content).unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = daemon.exec(JobSpec { stdin: b"in".to_vec(), ..shell("cat") }).await;
        daemon.wait(&id).await;
        ids.push(id);
    }
    daemon.kill();
    for (id, name) in ids.iter().zip(["spec.json", "state.jsonl", "stdin"]) {
        let path = daemon.folder(id).join(name);
        fs::remove_file(&path).unwrap();
        if name == "stdin" {
            fifo(&path)
        } else {
            link(&private, &path)
        };
    }
    let daemon = daemon.restart().await;
    for id in &ids[..2] {
        let error = refused(daemon.try_status(id).await);
        assert_eq!(error.kind(), (Code::DataLoss, "RECORD_CORRUPT"), "{error:?}");
        assert!(error.metadata["file"].contains(id) && !format!("{error:?}").contains(content));
    }
    let request = RerunRequest { job_id: ids[2].clone(), ..RerunRequest::default() };
    let answered = crate::harness::within("Rerun", daemon.api().rerun(request)).await;
    assert!(answered.is_err(), "nobody waits for who never writes");
    assert_eq!(daemon.run(argv(&["true"])).await.exit_code(), Some(0));
    assert_eq!(fs::read_to_string(private).unwrap(), content);
}

#[tokio::test]
async fn deleting_a_job_whose_folder_is_a_link_leaves_what_it_leads_to() {
    let mut daemon = Daemon::start().await;
    let id = daemon.run(argv(&["true"])).await.job_id;
    daemon.kill();
    let (path, away) = (daemon.folder(&id), daemon.beside().join("away"));
    fs::rename(&path, &away).unwrap();
    link(&away, &path);
    let daemon = daemon.restart().await;
    let _ = daemon.delete(&id, true).await;
    eventually("the link is gone", || fs::symlink_metadata(&path).is_err().then_some(())).await;
    assert!(away.join("spec.json").exists() && away.join("state.jsonl").exists());
}

/// A service that is started with this umask.
async fn daemon_with_umask(umask: &str) -> Daemon {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("start");
    let binary = env!("CARGO_BIN_EXE_jobwarden");
    fs::write(&script, format!("#!/bin/sh\numask {umask}\nexec {binary} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup { binary: Some(script), ..Setup::default() };
    let root = home.path().join("new/root");
    Daemon::start_on(setup, root, home).await
}

#[tokio::test]
async fn all_that_is_made_has_its_mode_from_the_start_whatever_the_umask() {
    for umask in ["000", "077", "027"] {
        let daemon = daemon_with_umask(umask).await;
        let spec = JobSpec { stdin: b"in".to_vec(), ..shell("umask; echo err >&2; sleep 600") };
        let id = daemon.exec(spec).await;
        // The umask of jobs is a setting, not what the service happened to be started with.
        daemon.printed(&id, "0022").await;
        let mut folders = vec![daemon.beside().join("new")];
        let (mut fifos, mut sockets) = (0, 0);
        while let Some(folder) = folders.pop() {
            assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700, "{folder:?}");
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    folders.push(path);
                    continue;
                }
                // A file may be gone by now; that is no fault.
                let Ok(found) = fs::symlink_metadata(&path) else { continue };
                assert_eq!(found.mode() & 0o7777, 0o600, "umask {umask}: {path:?}");
                fifos += usize::from(kind.is_fifo());
                sockets += usize::from(kind.is_socket());
            }
        }
        assert_eq!((fifos, sockets), (2, 1), "all kinds of files were seen");
        daemon.cancel(&id).await;
        daemon.wait(&id).await;
    }
}
