//! Answers that would hold many large jobs: they come in pieces, and keep nobody else waiting.

use std::collections::BTreeSet;

use jobwarden::api::{
    ExecRequest, GetServerInfoRequest, JobSpec, ListRequest, ListResponse, StatusRequest,
    WaitManyRequest, WaitRequest, job_service_client::JobServiceClient,
};
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{Daemon, argv, over_tcp, refused, seconds, token, with_tokens, within};

/// What a client takes that does not say how much it does.
const REPLY_BYTES_DEFAULT: usize = 4 << 20;
/// The bytes of a large job, in variables of this many bytes each.
const LARGE_BYTES: usize = 900_000;
const VARIABLE_BYTES: usize = 100_000;

fn large() -> JobSpec {
    let variable = |number| (format!("LARGE_{number}"), "x".repeat(VARIABLE_BYTES));
    let env = (0..LARGE_BYTES / VARIABLE_BYTES).map(variable).collect();
    JobSpec { env, ..argv(&["true"]) }
}

/// So many large jobs that have ended, none of them in the memory of the service.
async fn with_large_jobs(daemon: Daemon, count: usize) -> (Daemon, BTreeSet<String>) {
    let mut api = daemon.api_over_socket().await;
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let (spec, wait) = (Some(large()), seconds(20));
        let request = ExecRequest { spec, wait, ..ExecRequest::default() };
        let job = within("a job", api.exec(request)).await.unwrap().into_inner().job.unwrap();
        assert!(job.end_time.is_some());
        ids.insert(job.job_id);
    }
    (daemon.kill_and_restart().await, ids)
}

#[tokio::test]
async fn large_jobs_come_in_several_pages_that_every_client_takes() {
    let (daemon, made) = with_large_jobs(Daemon::start().await, 10).await;
    let mut api = JobServiceClient::new(daemon.channel().await);
    let (mut pages, mut listed, mut page_token) = (0, Vec::new(), String::new());
    loop {
        let request = ListRequest { page_size: 1000, page_token, filter: None };
        let page = within("a page", api.list(request)).await.unwrap().into_inner();
        assert!(page.encoded_len() < REPLY_BYTES_DEFAULT);
        let ListResponse { jobs, next_page_token, .. } = page;
        assert!(!jobs.is_empty());
        pages += 1;
        listed.extend(jobs.into_iter().map(|job| job.job_id));
        page_token = next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(pages > 2, "{pages} pages");
    assert!(listed.is_sorted_by(|newer, older| newer > older), "none comes twice");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), made);
}

#[tokio::test]
async fn who_asks_for_many_large_jobs_keeps_nobody_else_waiting() {
    let (daemon, made) = with_large_jobs(with_tokens().await, 20).await;
    let ids: Vec<_> = made.into_iter().collect();
    let greedy = token(&daemon, "greedy", "reader", &[]);
    let modest = token(&daemon, "modest", "reader", &[]);
    let mut asking = JoinSet::new();
    // The answers that they wait for at once fit into what one principal may have unread.
    for _ in 0..3 {
        let api = over_tcp(&daemon, Some(&greedy)).await;
        let mut api = api.max_decoding_message_size(64 << 20);
        let ids = ids.clone();
        asking.spawn(async move {
            let page = ListRequest { page_size: 1000, ..ListRequest::default() };
            let many = WaitManyRequest { job_ids: ids.clone(), ..WaitManyRequest::default() };
            for job_id in ids {
                let one = WaitRequest { job_id: job_id.clone(), ..WaitRequest::default() };
                api.status(StatusRequest { job_id }).await.unwrap();
                assert!(api.wait(one).await.unwrap().into_inner().ended);
            }
            api.list(page).await.unwrap();
            assert!(api.wait_many(many).await.unwrap().into_inner().done);
        });
    }
    let mut api = over_tcp(&daemon, Some(&modest)).await;
    let mut answers = 0;
    while !asking.is_empty() {
        within("an answer", api.get_server_info(GetServerInfoRequest {})).await.unwrap();
        answers += 1;
        while let Some(asked) = asking.try_join_next() {
            asked.unwrap();
        }
    }
    assert!(answers > 0);
}

#[tokio::test]
async fn more_jobs_than_fit_in_an_answer_are_refused_and_fewer_are_not() {
    let (daemon, made) = with_large_jobs(Daemon::start().await, 2).await;
    let mut job_ids: Vec<_> = made.iter().cloned().cycle().take(80).collect();
    let request = WaitManyRequest { job_ids: job_ids.clone(), ..WaitManyRequest::default() };
    let error = refused(within("WaitMany", daemon.api().wait_many(request)).await);
    assert_eq!(error.kind(), (Code::ResourceExhausted, "QUOTA_EXCEEDED"));
    assert!(error.message.contains("ask for fewer at once"), "{}", error.message);
    job_ids.truncate(60);
    let request = WaitManyRequest { job_ids, ..WaitManyRequest::default() };
    let answer = within("WaitMany", daemon.api().wait_many(request)).await.unwrap().into_inner();
    assert_eq!((answer.jobs.len(), answer.done), (60, true));
}
