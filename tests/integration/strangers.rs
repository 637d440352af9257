//! What is not ours: processes with the numbers of ours, other copies of the program, and things
//! that somebody put into the root.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use jobwarden::api::{EndCause, JobState};

use crate::harness::{
    Daemon, JobFacts as _, Setup, eventually, is_alive, kernel_tells_exits, kill_process, shell,
    state_of,
};

const UNTIL_GO: &str = "echo on; until [ -e go ]; do sleep 0.02; done; echo done; exit 3";

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

/// Writes the state of a job anew, as a change of its text; the checksums are made right again.
fn rewrite(folder: &Path, change: impl Fn(&str) -> String) {
    let path = folder.join("state.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| {
        let changed = change(line.trim_end());
        let (checked, _) = changed.rsplit_once(",\"crc\":\"").unwrap();
        let sealed = format!("{checked},\"crc\":\"{:08x}\"}}", crc32(checked.as_bytes()));
        format!("{sealed:511}\n")
    });
    fs::write(&path, lines.collect::<String>()).unwrap();
}

/// CRC-32 as in IEEE 802.3, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)));
        }
    }
    !crc
}

/// A job that runs when everything of ours is killed, the job too; its folder.
async fn abandoned(daemon: &mut Daemon) -> (String, PathBuf) {
    let id = daemon.exec(shell(UNTIL_GO)).await;
    daemon.printed(&id, "on\n").await;
    let pid = daemon.status(&id).await.pid;
    let (launcher, supervisor) = (daemon.launcher(), daemon.supervisor(&id));
    daemon.kill();
    for process in [launcher, supervisor, pid] {
        kill_process(process);
    }
    eventually("all are gone", || state_of(pid).is_none().then_some(())).await;
    let folder = daemon.folder(&id);
    (id, folder)
}

#[tokio::test]
async fn a_process_that_got_the_number_of_ours_is_left_alone() {
    let mut daemon = Daemon::start().await;
    let (id, folder) = abandoned(&mut daemon).await;
    let mut stranger = sleeper();
    let own = stranger.id();
    rewrite(&folder, |line| {
        let begin = line.find("\"pid\":").map_or(0, |place| place + 6);
        let length = line[begin..].find(',').unwrap_or(0);
        if begin == 0 {
            line.to_owned()
        } else {
            format!("{}{own}{}", &line[..begin], &line[begin + length..])
        }
    });
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Lost, EndCause::Lost), "{job:?}");
    assert!(is_alive(own.cast_signed()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn what_ran_before_the_host_was_restarted_is_lost_and_nobody_is_signalled() {
    let mut daemon = Daemon::start().await;
    let (id, folder) = abandoned(&mut daemon).await;
    let queued_folder = folder.clone();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // The very process, in a boot that was another.
    let mut stranger = sleeper();
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
    let ticks = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned();
    rewrite(&queued_folder, |line| {
        let line = line.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
        let Some(begin) = line.find("\"pid\":") else { return line };
        let end = begin + line[begin..].find(",\"boot_id\"").unwrap();
        let process = format!("\"pid\":{},\"start_ticks\":{ticks}", stranger.id());
        format!("{}{process}{}", &line[..begin], &line[end..])
    });
    let daemon = daemon.restart().await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.how(), (JobState::Lost, EndCause::Lost), "{job:?}");
    assert!(job.message.contains("restarted"), "{}", job.message);
    assert!(is_alive(stranger.id().cast_signed()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn another_copy_of_the_program_takes_over_what_the_first_one_had_started() {
    if !kernel_tells_exits() {
        return eprintln!("skipped: this kernel does not tell how strangers' children ended");
    }
    let mut daemon = Daemon::start().await;
    let ids = [daemon.exec(shell(UNTIL_GO)).await, daemon.exec(shell(UNTIL_GO)).await];
    for id in &ids {
        daemon.printed(id, "on\n").await;
    }
    let next = daemon.beside().join("jobwarden-next");
    fs::copy(env!("CARGO_BIN_EXE_jobwarden"), &next).unwrap();
    daemon.setup.binary = Some(next);
    let (launcher, supervisor) = (daemon.launcher(), daemon.supervisor(&ids[0]));
    let daemon = daemon.kill_and_restart().await;
    // The old launcher and one of its supervisors die; the other supervisor goes on.
    kill_process(launcher);
    kill_process(supervisor);
    eventually("another supervisor", || {
        daemon.supervisor_if_any(&ids[0]).filter(|now| *now != supervisor)
    })
    .await;
    fs::write(daemon.beside().join("go"), "").unwrap();
    for id in &ids {
        assert_eq!(daemon.wait(id).await.exit_code(), Some(3));
        assert_eq!(daemon.stdout(id).await, "on\ndone\n");
    }
}

/// A job that waits in the queue, and the one that it waits for.
async fn queued(daemon: &Daemon) -> (String, String) {
    let gate = daemon.exec(shell("until [ -e open ]; do sleep 0.02; done")).await;
    daemon.started(&gate).await;
    (daemon.exec(shell("echo out; exit 3")).await, gate)
}

#[tokio::test]
async fn a_link_in_the_place_of_a_file_is_never_followed() {
    for name in ["stdout.log", "output.index", "out.fifo"] {
        let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
        let (id, _gate) = queued(&daemon).await;
        let target = daemon.beside().join("target");
        fs::write(&target, "precious").unwrap();
        symlink(&target, daemon.folder(&id).join(name)).unwrap();
        fs::write(daemon.beside().join("open"), "").unwrap();
        let job = daemon.wait(&id).await;
        if name == "out.fifo" {
            // Others are not kept from running.
            assert_eq!(job.how(), (JobState::Failed, EndCause::LaunchFailed), "{job:?}");
            assert_eq!(job.launch_error.unwrap().errno_name, "ELOOP");
        } else {
            assert_eq!(job.exit_code(), Some(3), "{name}: {job:?}");
            assert!(job.message.contains("output was lost"), "{name}: {}", job.message);
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious", "{name}");
        assert_eq!(daemon.run(shell("exit 4")).await.exit_code(), Some(4), "{name}");
    }
}

#[tokio::test]
async fn a_fifo_in_the_place_of_a_file_keeps_nobody_waiting() {
    let daemon = Daemon::start_with(Setup::flags(&["--max-running-jobs", "1"])).await;
    let (id, _gate) = queued(&daemon).await;
    for name in ["timeout.json", "labels.json", "kill-x"] {
        let path = daemon.folder(&id).join(name);
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let begin = std::time::Instant::now();
        // Told as broken or as asked for, but told.
        let _ = daemon.try_status(&id).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{name}");
        fs::remove_file(&path).unwrap();
    }
    fs::write(daemon.beside().join("open"), "").unwrap();
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(3));
}
