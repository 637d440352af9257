//! The floor of `TailLog`: a server in a process of its own that streams from memory.
//!
//! It speaks the same protocol through the same stack, so that what is left is what the service
//! adds: reading files, pieces, notices. It reads no file and answers no other call.

use std::{
    io::Read as _,
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
};

use jobwarden::api::{
    self, job_service_client::JobServiceClient, job_service_server, log_chunk::Content,
    tail_log_response::Kind,
};
use tokio::net::UnixListener;
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, transport::Channel};

use crate::service::{connect, listening};

const ASKS: &str = "--as-bare-server";
const CHUNK_BYTES: usize = 64 * 1024;

/// The bare server.
pub(crate) struct Bare {
    process: Child,
    address: String,
}

impl Bare {
    /// Starts it on this socket. It ends with this process at the latest.
    pub(crate) fn start(socket: &Path) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.arg(ASKS).arg(socket).stdin(Stdio::piped());
        let (process, address) = listening(&mut command);
        Self { process, address }
    }

    /// A client on a connection of its own.
    pub(crate) async fn connect(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(connect(&self.address).await)
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Whether this process is to be the bare server.
pub(crate) fn is_asked_for(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|first| first == ASKS)
}

/// Serves until standard input ends.
pub(crate) async fn run(arguments: &[String]) {
    let path = arguments.get(1).expect("a socket is named");
    let listener = UnixListener::bind(path).expect("the socket can be made");
    eprintln!("listening on unix:{path}");
    let is_over = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let chunk = bytes::Bytes::from(vec![0; CHUNK_BYTES]);
    let service = job_service_server::JobServiceServer::new(Floor { chunk });
    let serving = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::select! {
        served = serving => served.expect("it serves"),
        _ = is_over => {}
    }
}

struct Floor {
    chunk: bytes::Bytes,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers `tail_log`, and every other call with the same refusal.
macro_rules! floor {
    ($($call:ident: $request:ident => $response:ident,)*) => {
        #[tonic::async_trait]
        impl job_service_server::JobService for Floor {
            type WatchEventsStream = Messages<api::WatchEventsResponse>;
            type TailLogStream = Messages<api::TailLogResponse>;

            async fn tail_log(
                &self,
                request: Request<api::TailLogRequest>,
            ) -> Result<Response<Self::TailLogStream>, Status> {
                Ok(Response::new(self.messages(request.into_inner().max_bytes)))
            }

            async fn watch_events(
                &self,
                _: Request<api::WatchEventsRequest>,
            ) -> Result<Response<Self::WatchEventsStream>, Status> {
                Err(Status::unimplemented("only TailLog"))
            }

            $(async fn $call(
                &self,
                _: Request<api::$request>,
            ) -> Result<Response<api::$response>, Status> {
                Err(Status::unimplemented("only TailLog"))
            })*
        }
    };
}

floor! {
    exec: ExecRequest => ExecResponse,
    status: StatusRequest => StatusResponse,
    list: ListRequest => ListResponse,
    wait: WaitRequest => WaitResponse,
    wait_many: WaitManyRequest => WaitManyResponse,
    kill: KillRequest => KillResponse,
    cancel: CancelRequest => CancelResponse,
    delete: DeleteRequest => DeleteResponse,
    rerun: RerunRequest => RerunResponse,
    update_labels: UpdateLabelsRequest => UpdateLabelsResponse,
    update_timeout: UpdateTimeoutRequest => UpdateTimeoutResponse,
    get_server_info: GetServerInfoRequest => GetServerInfoResponse,
}

impl Floor {
    /// A header, chunks of so many bytes together, an end.
    fn messages(&self, bytes: u64) -> Messages<api::TailLogResponse> {
        let data = self.chunk.clone();
        let size = CHUNK_BYTES as u64;
        let chunks = (0..bytes.div_ceil(size)).map(move |number| {
            let offset = number * size;
            let end_offset = bytes.min(offset + size);
            let length = usize::try_from(end_offset - offset).unwrap_or(0);
            Kind::Chunk(api::LogChunk {
                stream: api::LogStream::Stdout.into(),
                offset,
                end_offset,
                time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 1 }),
                content: Some(Content::Data(data.slice(..length))),
            })
        });
        let header = std::iter::once(Kind::Header(api::LogHeader::default()));
        let end = std::iter::once(Kind::End(api::LogEnd::default()));
        let kinds = header.chain(chunks).chain(end);
        let messages = kinds.map(|kind| Ok(api::TailLogResponse { kind: Some(kind) }));
        Box::pin(tokio_stream::iter(messages))
    }
}
