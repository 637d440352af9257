//! Tokens as they come and go, and the audit record of what was done with them.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jobwarden::api::{
    CancelRequest, DeleteRequest, ExecRequest, ListRequest, StatusRequest, WatchEventsRequest,
    job_service_client::JobServiceClient,
};
use tokio::sync::RwLock;

use crate::harness::{
    Daemon, argv, bearer, ended_job, eventually, over_tcp, seconds, shell, token, token_command,
    verdict, with_tokens, within,
};

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked_or_expires_and_a_rotated_one_goes_on() {
    let daemon = with_tokens().await;
    let old = token(&daemon, "ci", "submitter", &[]);
    let id = token_command(&daemon, &["list", "--json"]).1;
    let id = serde_json::from_str::<serde_json::Value>(id.lines().next().unwrap()).unwrap();
    let id = id["id"].as_str().unwrap().to_owned();
    let short = token(&daemon, "short", "reader", &["--expires", "2s"]);
    let mut before = over_tcp(&daemon, Some(&old)).await;
    let job = ended_job(&mut before).await;
    let mut watch = before.watch_events(WatchEventsRequest::default()).await.unwrap().into_inner();
    let mut expiring = over_tcp(&daemon, Some(&short)).await;
    let mut other =
        expiring.watch_events(WatchEventsRequest::default()).await.unwrap().into_inner();

    let new = token(&daemon, "ci", "submitter", &[]);
    assert_eq!(token_command(&daemon, &["revoke", &id]).0, Some(0));
    for stream in [&mut watch, &mut other] {
        let ended = loop {
            match within("the end of a stream", stream.message()).await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert_eq!(verdict(ended), "nobody");
    }
    assert_eq!(verdict(before.status(StatusRequest { job_id: job.clone() }).await), "nobody");
    let mut after = over_tcp(&daemon, Some(&new)).await;
    assert_eq!(
        verdict(after.status(StatusRequest { job_id: job }).await),
        "ok",
        "the job stays its own"
    );
}

#[tokio::test]
async fn tokens_are_rotated_under_load_without_a_failed_call() {
    let daemon = with_tokens().await;
    let mut current = token(&daemon, "ci", "submitter", &[]);
    let channel = daemon.channel().await;
    // Held while it is used: nobody calls with a token that is about to be revoked.
    let used = Arc::new(RwLock::new(Some(bearer(Some(&current)))));
    let calls = Arc::new(AtomicU64::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (channel, used, calls) = (channel.clone(), Arc::clone(&used), Arc::clone(&calls));
        callers.spawn(async move {
            while let Some(bearer) = &*used.read().await {
                let mut api = JobServiceClient::with_interceptor(channel.clone(), bearer.clone());
                api.list(ListRequest::default()).await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..10 {
        let old = current.split('_').nth(1).unwrap().to_owned();
        current = token(&daemon, "ci", "submitter", &[]);
        *used.write().await = Some(bearer(Some(&current)));
        assert_eq!(token_command(&daemon, &["revoke", &old]).0, Some(0));
        let enough = calls.load(Ordering::Relaxed) + 20;
        let is_enough = || (calls.load(Ordering::Relaxed) >= enough).then_some(());
        eventually("calls go on", is_enough).await;
    }
    *used.write().await = None;
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
}

/// The audit record, line by line.
fn audit(daemon: &Daemon) -> Vec<serde_json::Value> {
    let path = daemon.root().join("access/audit.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_audit_record_tells_who_did_what_and_what_was_refused_and_no_secret() {
    let daemon = with_tokens().await;
    let secret = token(&daemon, "ci", "submitter", &[]);
    let mut api = over_tcp(&daemon, Some(&secret)).await;
    let spec = Some(shell("true; : hidden-command"));
    let request = ExecRequest { spec, wait: seconds(20), ..ExecRequest::default() };
    let id = api.exec(request).await.unwrap().into_inner().job.unwrap().job_id;
    let spec = Some(argv(&["sleep", "60"]));
    let request = ExecRequest { spec, ..ExecRequest::default() };
    let second = api.exec(request).await.unwrap().into_inner().job.unwrap().job_id;
    let reason = "no longer\nneeded\u{1b}[2J".to_owned();
    let request = CancelRequest { job_id: second.clone(), reason, ..CancelRequest::default() };
    api.cancel(request).await.unwrap();
    let reader = token(&daemon, "eve", "reader", &[]);
    let mut reading = over_tcp(&daemon, Some(&reader)).await;
    let request = DeleteRequest { job_id: id.clone(), ..DeleteRequest::default() };
    assert_eq!(verdict(reading.delete(request).await), "role");
    assert!(reading.status(StatusRequest { job_id: id.clone() }).await.is_ok());
    let mut nobody = over_tcp(&daemon, None).await;
    assert_eq!(verdict(nobody.list(ListRequest::default()).await), "nobody");

    let lines = eventually("all entries", || Some(audit(&daemon)).filter(|it| it.len() >= 7)).await;
    let part = |line: &serde_json::Value| {
        ["principal", "call", "job", "outcome"]
            .map(|key| line[key].as_str().unwrap_or("").to_owned())
    };
    let account = format!("uid:{}", nix::unistd::geteuid());
    let expected = [
        [account.as_str(), "token create", "", "ok"],
        ["token:ci", "Exec", &id, "ok"],
        ["token:ci", "Exec", &second, "ok"],
        ["token:ci", "Cancel", &second, "ok"],
        [account.as_str(), "token create", "", "ok"],
        ["token:eve", "Delete", "", "ROLE_REQUIRED"],
        ["", "/jobwarden.v1.JobService/List", "", "UNAUTHENTICATED"],
    ];
    let told: Vec<_> = lines.iter().map(part).collect();
    assert_eq!(told, expected.map(|line| line.map(str::to_owned)));
    assert_eq!(lines[3]["detail"], "no longer\nneeded\u{1b}[2J");
    let is_local = |peer: &str| peer == "command line" || peer.starts_with("127.0.0.1:");
    assert!(lines.iter().all(|line| is_local(line["peer"].as_str().unwrap())));
    let text = std::fs::read_to_string(daemon.root().join("access/audit.jsonl")).unwrap();
    for hidden in [&secret, &reader, "hidden-command"] {
        assert!(!text.contains(hidden));
    }
    assert!(!text.contains('\u{1b}'));
}

#[tokio::test]
async fn a_token_that_cannot_be_printed_is_revoked_again() {
    let daemon = with_tokens().await;
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for (out, json, code) in
        [(Stdio::from(full), None, 70), (Stdio::from(closed), Some("--json"), 141)]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobwarden"));
        command.args(["token", "--root"]).arg(daemon.root()).env_remove("JOBWARDEN_CONFIG");
        command.args(["create", "--name", "lost", "--role", "admin"]).args(json);
        let end = command.stdout(out).output().unwrap();
        let told = String::from_utf8(end.stderr).unwrap();
        assert!(told.contains("could not be printed and has been revoked again"), "{told}");
        assert_eq!(end.status.code(), Some(code), "{told}");
    }
    assert_eq!(token_command(&daemon, &["list", "--json"]), (Some(0), String::new()));
    let calls: Vec<_> = audit(&daemon).iter().map(|line| line["call"].to_string()).collect();
    assert_eq!(calls, [r#""token create""#, r#""token revoke""#].repeat(2));
}
