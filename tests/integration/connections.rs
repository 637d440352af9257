//! Connections that break the rules of HTTP/2, or do not get that far: each ends, and honest callers
//! are answered meanwhile.

use std::time::Duration;

use jobwarden::api::{ListRequest, job_service_client::JobServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, transport::Channel};

use crate::harness::{
    Api, Daemon, Setup,
    frames::{
        ENHANCE_YOUR_CALM, PREFACE, begin, call_headers, continuation, farewell, field, headers,
        reset,
    },
    over_tcp, token, within,
};

const LIST: &str = "/jobwarden.v1.JobService/List";

/// Calls on a new connection over TCP, on an old one, and over the socket.
async fn answers_honest_callers(daemon: &Daemon, old: &mut JobServiceClient<Channel>) {
    let calling = async {
        old.list(ListRequest::default()).await.expect("the old connection is answered");
        let mut new = JobServiceClient::new(daemon.channel().await);
        new.list(ListRequest::default()).await.expect("a new connection is answered");
        let mut socket = daemon.api_over_socket().await;
        socket.list(ListRequest::default()).await.expect("the socket is answered");
    };
    within("honest callers are answered", calling).await;
}

#[tokio::test]
async fn a_greeting_of_one_byte_a_second_is_cut_off() {
    let daemon = Daemon::start().await;
    let stream = TcpStream::connect(daemon.tcp()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        let mut written = 0;
        for byte in PREFACE {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            written += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        written
    });
    let mut sent_to_us = Vec::new();
    let _ = within("it is cut off", reader.read_to_end(&mut sent_to_us)).await;
    assert!(!writing.is_finished(), "it was not waited for the whole greeting");
    writing.abort();
    answers_honest_callers(&daemon, &mut daemon.api()).await;
}

#[tokio::test]
async fn headers_without_an_end_are_cut_off() {
    let daemon = Daemon::start().await;
    let mut old = daemon.api();
    let (reader, mut writer) = begin(daemon.tcp()).await.into_split();
    let writing = tokio::spawn(async move {
        let block = field("x", &"y".repeat(8 * 1024));
        if writer.write_all(&headers(1, &call_headers(LIST), false)).await.is_err() {
            return;
        }
        while writer.write_all(&continuation(1, &block)).await.is_ok() {}
    });
    let code = within("it is cut off", farewell(reader)).await;
    // The word may be lost with what was on its way to the service.
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    within("it can write no more", writing).await.unwrap();
    answers_honest_callers(&daemon, &mut old).await;
}

#[tokio::test]
async fn headers_beyond_the_bound_are_refused_and_those_within_are_not() {
    let daemon = Daemon::start().await;
    let call = async |bytes: usize| {
        let mut request = tonic::Request::new(ListRequest::default());
        request.metadata_mut().insert("x", "y".repeat(bytes).parse().unwrap());
        let mut api = JobServiceClient::new(daemon.channel().await);
        within("an answer", api.list(request)).await
    };
    call(12 * 1024).await.unwrap();
    call(64 * 1024).await.unwrap_err();
    answers_honest_callers(&daemon, &mut daemon.api()).await;
}

#[tokio::test]
async fn a_flood_of_calls_that_are_taken_back_is_cut_off() {
    let daemon = Daemon::start().await;
    let mut old = daemon.api();
    let (reader, mut writer) = begin(daemon.tcp()).await.into_split();
    let writing = tokio::spawn(async move {
        let block = call_headers(LIST);
        let mut stream = 1;
        loop {
            let mut flood = Vec::new();
            for _ in 0..256 {
                flood.extend(headers(stream, &block, true));
                flood.extend(reset(stream));
                stream += 2;
            }
            if writer.write_all(&flood).await.is_err() {
                return stream;
            }
        }
    });
    answers_honest_callers(&daemon, &mut old).await;
    let code = within("it is cut off", farewell(reader)).await;
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    within("it can write no more", writing).await.unwrap();
    answers_honest_callers(&daemon, &mut old).await;
}

#[tokio::test]
async fn bytes_that_are_no_http_2_end_the_connection() {
    let daemon = Daemon::start().await;
    let mut stream = TcpStream::connect(daemon.tcp()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    within("it is closed", farewell(stream)).await;
    answers_honest_callers(&daemon, &mut daemon.api()).await;
}

#[tokio::test]
async fn a_stranger_who_goes_on_calling_is_cut_off_and_an_honest_caller_is_not() {
    const REFUSALS_MAX: usize = 100;
    let daemon = Daemon::start_with(Setup { needs_token: true, ..Setup::default() }).await;
    let honest = over_tcp(&daemon, Some(&token(&daemon, "ci", "reader", &[]))).await;
    let list = |mut api: Api| async move { api.list(ListRequest::default()).await };
    list(honest.clone()).await.unwrap();
    let stranger = over_tcp(&daemon, None).await;
    let mut refused = 0;
    while refused <= 10 * REFUSALS_MAX {
        match list(stranger.clone()).await {
            Err(status) if status.code() == Code::Unauthenticated => refused += 1,
            // The connection has gone; the next call would make another.
            _ => break,
        }
    }
    assert!((REFUSALS_MAX..2 * REFUSALS_MAX).contains(&refused), "{refused}");
    list(honest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_calls_on_one_connection_is_answered() {
    const CALLS: usize = 5000;
    let daemon = Daemon::start().await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let mut api = daemon.api();
        let request = ListRequest { page_size: 1, ..ListRequest::default() };
        calls.spawn(async move { api.list(request).await.map(drop) });
    }
    for answer in within("all are answered", calls.join_all()).await {
        answer.unwrap();
    }
}
