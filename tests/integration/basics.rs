//! What every caller does: run something and learn how it went and what it wrote.

use jobwarden::api::{
    EndCause, ExecRequest, JobSpec, JobState, LogEndReason, TailLogRequest, WaitRequest,
};

use crate::harness::{
    Daemon, JobFacts as _, argv, eventually, name_of, pairs, seconds, shell, within,
};

#[tokio::test]
async fn a_job_that_exits_with_zero_has_succeeded() {
    let daemon = Daemon::start().await;
    let job = daemon.run(argv(&["true"])).await;
    assert_eq!(job.how(), (JobState::Succeeded, EndCause::Exited));
    assert_eq!(job.exit_code(), Some(0));
    assert_eq!(job.pid, 0);
    assert!(job.start_time.is_some() && job.end_time.is_some());
    assert!(job.stdout.unwrap().complete && job.stderr.unwrap().complete);
    assert_eq!(job.owner, "anonymous");
}

#[tokio::test]
async fn an_exit_code_is_told_as_it_was() {
    let daemon = Daemon::start().await;
    for code in [1, 7, 127, 255] {
        let job = daemon.run(shell(&format!("exit {code}"))).await;
        assert_eq!(job.how(), (JobState::Failed, EndCause::Exited));
        assert_eq!(job.exit_code(), Some(code));
        assert!(job.message.contains(&code.to_string()), "{}", job.message);
    }
}

#[tokio::test]
async fn a_signal_that_nobody_sent_through_us_is_told_with_its_name() {
    let daemon = Daemon::start().await;
    let job = daemon.run(shell("kill -USR1 $$")).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::Signaled));
    assert_eq!(job.signal(), Some(10));
    assert_eq!(job.exit_status.unwrap().signal_name, "SIGUSR1");
}

#[tokio::test]
async fn both_streams_are_kept_byte_for_byte() {
    let daemon = Daemon::start().await;
    let script = r"printf '\000\377\r\n\303'; printf 'err\001\200' >&2";
    let id = daemon.exec(shell(script)).await;
    let job = daemon.wait(&id).await;
    let output = daemon.output(&id).await;
    assert_eq!(output.stdout(), b"\x00\xff\r\n\xc3");
    assert_eq!(output.stderr(), b"err\x01\x80");
    assert_eq!(output.reason(), LogEndReason::Terminal);
    assert_eq!((job.stdout.unwrap().size_bytes, job.stderr.unwrap().size_bytes), (5, 5));
    assert_eq!(std::fs::read(daemon.folder(&id).join("stdout.log")).unwrap(), output.stdout());
}

#[tokio::test]
async fn a_job_without_output_has_no_log_files() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["true"])).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.output(&id).await.in_order(), b"");
    let is_there = |file: &&str| daemon.folder(&id).join(file).exists();
    assert!(!["stdout.log", "stderr.log", "output.index"].iter().any(is_there));
    // They go once the end has been told.
    let fifos = ["out.fifo", "err.fifo"];
    eventually("no FIFO is left", || (!fifos.iter().any(is_there)).then_some(())).await;
}

#[tokio::test]
async fn a_megabyte_without_a_newline_arrives_whole() {
    let daemon = Daemon::start().await;
    let script = "head -c 1048577 /dev/zero | tr '\\0' x";
    let id = daemon.exec(shell(script)).await;
    daemon.wait(&id).await;
    let stdout = daemon.output(&id).await.stdout();
    assert_eq!(stdout.len(), 1_048_577);
    assert!(stdout.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn input_is_given_byte_for_byte_and_then_ends() {
    let daemon = Daemon::start().await;
    let stdin: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let id = daemon.exec(JobSpec { stdin: stdin.clone(), ..argv(&["cat"]) }).await;
    let job = daemon.wait(&id).await;
    assert_eq!(job.exit_code(), Some(0));
    assert_eq!(daemon.output(&id).await.stdout(), stdin);
    assert!(job.spec.unwrap().stdin.is_empty(), "input is no part of a reply");
}

#[tokio::test]
async fn without_input_a_read_sees_the_end() {
    let daemon = Daemon::start().await;
    let job = daemon.run(shell("read line; test $? = 1")).await;
    assert_eq!(job.exit_code(), Some(0));
}

#[tokio::test]
async fn a_job_runs_in_its_directory() {
    let daemon = Daemon::start().await;
    let working_dir = daemon.beside().join("a b");
    std::fs::create_dir(&working_dir).unwrap();
    let working_dir = working_dir.to_str().unwrap().to_owned();
    let spec = JobSpec { working_dir: working_dir.clone(), ..argv(&["pwd", "-P"]) };
    let id = daemon.exec(spec).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await.trim_end(), working_dir);
}

#[tokio::test]
async fn a_job_without_a_directory_runs_in_the_home_directory() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(argv(&["pwd", "-P"])).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await.trim_end(), daemon.beside().to_str().unwrap());
}

#[tokio::test]
async fn one_element_of_argv_is_never_a_shell_line() {
    let daemon = Daemon::start().await;
    let job = daemon.run(argv(&["exit 3"])).await;
    assert_eq!(job.how(), (JobState::Failed, EndCause::LaunchFailed));
    let id = daemon.exec(argv(&["echo", "$HOME; exit 3", "*"])).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(0));
    assert_eq!(daemon.stdout(&id).await, "$HOME; exit 3 *\n");
}

#[tokio::test]
async fn a_script_runs_in_a_shell_with_all_it_can_do() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("for word in a b; do\n  echo \"$word$0\"\ndone | tac")).await;
    daemon.wait(&id).await;
    assert_eq!(daemon.stdout(&id).await, "bsh\nash\n");
}

#[tokio::test]
async fn merged_output_keeps_the_exact_order_of_both_streams() {
    let daemon = Daemon::start().await;
    let script = "for n in 1 2 3 4 5 6 7 8; do echo o$n; echo e$n >&2; done";
    let id = daemon.exec(JobSpec { merge_output: true, ..shell(script) }).await;
    let job = daemon.wait(&id).await;
    let expected = (1..=8).map(|n| format!("o{n}\ne{n}\n")).collect::<Vec<_>>().concat();
    assert_eq!(daemon.stdout(&id).await, expected);
    assert_eq!(job.stderr.unwrap().size_bytes, 0);
}

#[tokio::test]
async fn exec_can_wait_for_the_end_and_bring_the_last_output() {
    let daemon = Daemon::start().await;
    let request = ExecRequest {
        spec: Some(shell("echo first; echo last; echo oops >&2; exit 4")),
        wait: seconds(20),
        output_tail_bytes: 5,
        ..ExecRequest::default()
    };
    let reply = within("Exec", daemon.api().exec(request)).await.unwrap().into_inner();
    assert_eq!(reply.job.unwrap().exit_code(), Some(4));
    assert_eq!((reply.stdout_tail.as_str(), reply.stderr_tail.as_str()), ("last\n", "oops\n"));
    assert!(!reply.deduplicated);
}

#[tokio::test]
async fn exec_answers_with_the_job_as_it_is_when_its_wait_is_over() {
    let daemon = Daemon::start().await;
    let request = ExecRequest {
        spec: Some(argv(&["sleep", "600"])),
        wait: crate::harness::millis(20),
        ..ExecRequest::default()
    };
    let reply = within("Exec", daemon.api().exec(request)).await.unwrap().into_inner();
    let job = reply.job.unwrap();
    assert!(matches!(job.state(), JobState::Queued | JobState::Running), "{job:?}");
    daemon.delete(&job.job_id, true).await.unwrap();
}

#[tokio::test]
async fn a_job_shows_its_spec_its_labels_and_its_use() {
    let daemon = Daemon::start().await;
    let spec = JobSpec {
        labels: pairs([("team", "red"), ("build/no", "")]),
        display_name: "a näme".to_owned(),
        priority: -3,
        timeout: seconds(60),
        ..shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    };
    let job = daemon.run(spec.clone()).await;
    assert_eq!(job.labels, spec.labels);
    let usage = job.usage.unwrap();
    let time = usage.user_time.unwrap().nanos + usage.system_time.unwrap().nanos;
    assert!(time > 0 && usage.max_rss_bytes > 0);
    let shown = job.spec.unwrap();
    assert_eq!(
        (&shown.labels, &shown.display_name, shown.priority, shown.timeout, &shown.shell),
        (&spec.labels, &spec.display_name, spec.priority, spec.timeout, &spec.shell),
    );
}

#[tokio::test]
async fn a_running_job_shows_its_process_and_what_it_has_written() {
    let daemon = Daemon::start().await;
    let id = daemon.exec(shell("echo on; exec sleep 600")).await;
    daemon.printed(&id, "on\n").await;
    let job = daemon.status(&id).await;
    assert_eq!(job.state(), JobState::Running);
    let is_sleep = || (name_of(job.pid).as_deref() == Some("sleep")).then_some(());
    eventually("the shell has become the other program", is_sleep).await;
    assert!(job.end_time.is_none() && job.exit_status.is_none());
    let snapshot = daemon.output(&id).await;
    assert_eq!(snapshot.stdout(), b"on\n");
    assert_eq!(snapshot.reason(), LogEndReason::Snapshot);
    assert!(!snapshot.end.unwrap().complete);
    daemon.delete(&id, true).await.unwrap();
}

#[tokio::test]
async fn everything_works_over_the_unix_socket_and_the_owner_is_the_user() {
    let daemon = Daemon::start().await;
    let mut api = daemon.api_over_socket().await;
    let request = ExecRequest { spec: Some(shell("echo hello")), ..ExecRequest::default() };
    let accepted = api.exec(request).await.unwrap().into_inner().job.unwrap();
    let job_id = accepted.job_id;
    let request = WaitRequest { job_id: job_id.clone(), ..WaitRequest::default() };
    let ended = api.wait(request).await.unwrap().into_inner().job.unwrap();
    assert_eq!(ended.exit_code(), Some(0));
    assert_eq!(ended.owner, format!("uid:{}", nix::unistd::getuid()));
    let request = TailLogRequest { job_id, ..TailLogRequest::default() };
    let stream = api.tail_log(request).await.unwrap().into_inner();
    assert_eq!(crate::harness::collect(stream).await.stdout(), b"hello\n");
}

#[tokio::test]
async fn ids_are_26_characters_and_strictly_increase() {
    let daemon = Daemon::start().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(daemon.exec(argv(&["true"])).await);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let is_good = |id: &String| {
        id.len() == 26 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    assert!(ids.iter().all(is_good), "{ids:?}");
}

#[tokio::test]
async fn a_promise_to_survive_power_loss_changes_nothing_a_caller_sees() {
    let setup = crate::harness::Setup::flags(&["--durability", "power"]);
    let daemon = Daemon::start_with(setup).await;
    let id = daemon.exec(JobSpec { stdin: "in".into(), ..shell("cat; exit 5") }).await;
    assert_eq!(daemon.wait(&id).await.exit_code(), Some(5));
    assert_eq!(daemon.stdout(&id).await, "in");
}
