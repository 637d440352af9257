//! How a process is started: what it inherits, and what is told when it cannot be.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use jobwarden::api::{EndCause, JobSpec, JobState};

use crate::harness::{Daemon, JobFacts as _, Setup, argv, pairs, shell};

/// Runs a job that must fail to start; its stage and error.
async fn launch_error(daemon: &Daemon, spec: JobSpec) -> (String, i32, String) {
    let job = daemon.run(spec).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::LaunchFailed));
    assert_eq!(job.exit_status, None, "what never ran has no exit code");
    assert_eq!((job.start_time, job.pid), (None, 0));
    assert!(!job.message.is_empty());
    let error = job.launch_error.expect("it is told");
    (error.stage, error.errno, error.errno_name)
}

#[tokio::test]
async fn a_missing_program_is_a_failed_launch_and_never_exit_code_127() {
    let daemon = Daemon::start().await;
    for program in ["no-such-program", "/nonexistent/program", "./none"] {
        let error = launch_error(&daemon, argv(&[program, "x"])).await;
        assert_eq!(error, ("exec".to_owned(), 2, "ENOENT".to_owned()), "{program}");
    }
}

#[tokio::test]
async fn a_file_that_may_not_be_run_is_told_from_a_missing_one() {
    let daemon = Daemon::start().await;
    let file = daemon.beside().join("plain");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let error = launch_error(&daemon, argv(&[file.to_str().unwrap()])).await;
    assert_eq!(error, ("exec".to_owned(), 13, "EACCES".to_owned()));
}

#[tokio::test]
async fn a_file_that_is_no_program_is_not_handed_to_a_shell() {
    let daemon = Daemon::start().await;
    let file = daemon.beside().join("text");
    std::fs::write(&file, "exit 0\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let error = launch_error(&daemon, argv(&[file.to_str().unwrap()])).await;
    assert_eq!(error, ("exec".to_owned(), 8, "ENOEXEC".to_owned()));
}

#[tokio::test]
async fn a_missing_directory_is_told_as_such() {
    let daemon = Daemon::start().await;
    let spec = JobSpec { working_dir: "/nonexistent/folder".to_owned(), ..argv(&["true"]) };
    let error = launch_error(&daemon, spec).await;
    assert_eq!(error, ("working_dir".to_owned(), 2, "ENOENT".to_owned()));
    let spec = JobSpec { working_dir: "/etc/passwd".to_owned(), ..argv(&["true"]) };
    let error = launch_error(&daemon, spec).await;
    assert_eq!(error, ("working_dir".to_owned(), 20, "ENOTDIR".to_owned()));
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_path_of_the_job() {
    let daemon = Daemon::start().await;
    let program = daemon.beside().join("my-own-program");
    std::fs::write(&program, "#!/bin/sh\necho found $0 $1\n").unwrap();
    std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let path = format!("/nonexistent:{}:/bin", daemon.beside().display());
    let spec = JobSpec { env: pairs([("PATH", &path)]), ..argv(&["my-own-program", "it"]) };
    let id = daemon.exec(spec).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, format!("found {} it\n", program.display()));
}

#[tokio::test]
async fn a_job_starts_with_clean_signals_whatever_the_service_ignores() {
    for is_hangup_ignored in [false, true] {
        let setup = Setup { is_hangup_ignored, ..Setup::default() };
        let daemon = Daemon::start_with(setup).await;
        let id = daemon.exec(argv(&["cat", "/proc/self/status"])).await;
        daemon.wait(&id).await;
        let status = daemon.stdout(&id).await;
        let is_wanted = |line: &&str| line.starts_with("SigBlk:") || line.starts_with("SigIgn:");
        let lines: Vec<&str> = status.lines().filter(is_wanted).collect();
        let expected = ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"];
        assert_eq!(lines, expected, "nohup: {is_hangup_ignored}");
    }
}

#[tokio::test]
async fn a_job_has_three_descriptors_and_no_more() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["ls", "/proc/self/fd"])).await;
    daemon.wait(&id).await;
    // The fourth is the folder that `ls` reads.
    assert_eq!(daemon.stdout(&id).await, "0\n1\n2\n3\n");
}

#[tokio::test]
async fn a_job_leads_a_session_of_its_own_and_has_no_terminal() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["cat", "/proc/self/stat"])).await;
    daemon.wait(&id).await;
    let stat = daemon.stdout(&id).await;
    let fields: Vec<&str> = stat.split(' ').collect();
    let (pid, group, session, terminal) = (fields[0], fields[4], fields[5], fields[6]);
    assert_eq!((group, session, terminal), (pid, pid, "0"));
}

#[tokio::test]
async fn a_job_has_the_usual_umask_and_not_the_services_own() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("umask")).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "0022\n");
}

#[tokio::test]
async fn a_job_can_open_its_own_output_again() {
    let daemon = Daemon::start().await;
    let script = "echo one; echo two > /dev/stdout; echo three >> /proc/self/fd/1; \
                  echo err > /dev/stderr";
    let id = daemon.exec(shell(script)).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    let output = daemon.output(&id).await;
    assert_eq!(output.stdout(), b"one\ntwo\nthree\n");
    assert_eq!(output.stderr(), b"err\n");
}

#[tokio::test]
async fn the_processes_that_run_a_job_are_no_children_of_the_service() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["sleep", "600"])).await;
    let job = daemon.started(&id).await;
    let supervisor = daemon.supervisor(&id);
    assert_eq!(crate::harness::children_of(daemon.launcher()), [supervisor]);
    assert_eq!(crate::harness::children_of(supervisor), [job.pid]);
    daemon.delete(&id, true).await.unwrap();
}
