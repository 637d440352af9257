//! `TailLog` of a large log: its rate beside a bare stream, and readers that stop reading.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jobwarden::api::{
    self, job_service_client::JobServiceClient, log_chunk::Content, tail_log_response::Kind,
};
use tonic::{Streaming, transport::Channel};

use crate::{
    bare::Bare,
    figures::{Table, Target},
    jobs,
    service::{Service, own_cpu_ms, pss_kib},
};

const MEBIBYTE: u64 = 1024 * 1024;
const TURNS: usize = 3;
/// Until all windows and buffers are full, or those of streams that were let go are free again.
const SETTLE: Duration = Duration::from_secs(2);

/// Makes a log and reads it, in turn with the bare stream.
pub(crate) async fn measure(folder: &Path, mebibytes: u64, table: &mut Table) {
    let service = Service::start_on_socket(folder, &["--durability", "process"]).await;
    let bare = Bare::start(&service.folder().join("bare"));
    let script = format!("head -c {mebibytes}M /dev/zero");
    let job_id = jobs::run_script(&service, script).await;
    // A short read first: what any first stream leaves behind is not what a stalled one holds.
    read(service.connect().await, service.pid(), &job_id, MEBIBYTE).await;
    stalled(&service, &job_id, 1, Target::Below(2.0), table).await;
    stalled(&service, &job_id, 100, Target::None, table).await;

    let bytes = mebibytes * MEBIBYTE;
    for turn in 0..TURNS {
        let mut floor = None;
        if turn % 2 == 0 {
            floor = Some(read(bare.connect().await, bare.pid(), "", bytes).await);
        }
        let ours = read(service.connect().await, service.pid(), &job_id, bytes).await;
        let floor = match floor {
            Some(floor) => floor,
            None => read(bare.connect().await, bare.pid(), "", bytes).await,
        };
        table.add("bare stream of 64 KiB messages, MiB/s", floor.mebibytes_per_second);
        table.add("  processor ms of its server per GiB", floor.cpu_ms_per_gibibyte);
        table.add(&format!("TailLog of {mebibytes} MiB, MiB/s"), ours.mebibytes_per_second);
        let part = ours.mebibytes_per_second / floor.mebibytes_per_second;
        table.add_for("  as a part of the bare stream", part, Target::AtLeast(0.6));
        table.add("  processor ms of the service per GiB", ours.cpu_ms_per_gibibyte);
        table.add("  mean KiB of a chunk", ours.chunk_kibibytes);
    }
    bare.stop();
    service.stop().await;
}

/// What one whole stream came to.
struct Transfer {
    mebibytes_per_second: f64,
    cpu_ms_per_gibibyte: f64,
    chunk_kibibytes: f64,
}

async fn opened(
    mut client: JobServiceClient<Channel>,
    job_id: &str,
    max_bytes: u64,
) -> Streaming<api::TailLogResponse> {
    let job_id = job_id.to_owned();
    let request = api::TailLogRequest { job_id, max_bytes, ..api::TailLogRequest::default() };
    client.tail_log(request).await.expect("the log can be read").into_inner()
}

/// Reads `bytes` to the end of the stream.
async fn read(
    client: JobServiceClient<Channel>,
    server: u32,
    job_id: &str,
    bytes: u64,
) -> Transfer {
    let cpu = own_cpu_ms(server);
    let begin = Instant::now();
    let mut stream = opened(client, job_id, bytes).await;
    let (mut got, mut chunks, mut is_ended) = (0, 0_u32, false);
    while let Some(message) = stream.message().await.expect("the stream ends well") {
        match message.kind {
            Some(Kind::Chunk(chunk)) => {
                let Some(Content::Data(data)) = chunk.content else { continue };
                got += data.len() as u64;
                chunks += 1;
            }
            Some(Kind::End(_)) => is_ended = true,
            _ => {}
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = own_cpu_ms(server) - cpu;
    assert!(is_ended && got == bytes, "{got} of {bytes} bytes came");
    let mebibytes = got as f64 / MEBIBYTE as f64;
    Transfer {
        mebibytes_per_second: mebibytes / seconds,
        cpu_ms_per_gibibyte: cpu * 1024.0 / mebibytes,
        chunk_kibibytes: mebibytes * 1024.0 / f64::from(chunks),
    }
}

/// What the service's process grows by for readers that read the header and then nothing, each on
/// a connection of its own.
async fn stalled(service: &Service, job_id: &str, count: usize, target: Target, table: &mut Table) {
    tokio::time::sleep(SETTLE).await;
    let (pss, private) = pss_kib(service.pid());
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = opened(service.connect().await, job_id, 0).await;
        let first = stream.message().await.expect("the stream begins").and_then(|first| first.kind);
        assert!(matches!(first, Some(Kind::Header(_))));
        streams.push(stream);
    }
    tokio::time::sleep(SETTLE).await;
    let (pss_then, private_then) = pss_kib(service.pid());
    let name =
        |what: &str| format!("stalled readers, {count}: {what} of the service grows by, MiB");
    table.add_for(&name("PSS"), (pss_then - pss) / 1024.0, target);
    table.add_for(&name("private memory"), (private_then - private) / 1024.0, target);
    drop(streams);
}
