//! Which services there are, what every call passes before it comes to one, and the bounds of
//! HTTP/2.

use std::{convert::Infallible, io, time::Duration};

use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    server::NamedService,
    transport::server::Router,
};
use tower::{
    Service, ServiceBuilder,
    layer::util::{Identity, Stack},
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    ServeError,
    admission::AdmissionLayer,
    bodies::{BodiesLayer, REFLECTION_REQUEST_BYTES_MAX},
    layers::{Activity, ActivityLayer, DetailsLayer, PanicAnswer},
    system,
};
use crate::{
    api::{self, job_service_server::JobServiceServer},
    service::JobApi,
};

/// The largest request to the health service: the name of a service.
pub(super) const HEALTH_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Calls at once on one connection: open waits are calls, so this is no small number.
const CALLS_PER_CONNECTION_MAX: u32 = 65_536;
/// What may have come of one call and not been looked at yet. Requests are looked at as they come, but
/// for those of reflection to whoever takes no answers.
const CALL_WINDOW_BYTES: u32 = 256 * 1024;
/// The same of all calls of one connection. The library lets small frames wait that, rounded up to 256
/// bytes each, are half of it, and cuts the connection on which there are more: each call may have one.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 256 * CALLS_PER_CONNECTION_MAX;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// All headers of one call, unpacked: a token and some tracing take 2 KiB.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Calls of one connection that were taken back before we came to them; then it is cut.
const PENDING_RESETS_MAX: usize = 20;
/// Faults of one connection that we answered by taking back a call; then it is cut. What still comes of
/// a call that was refused long ago counts too.
const ANSWERED_FAULTS_MAX: usize = 4096;

/// What every call passes, the outermost last.
pub(super) type Layers = Stack<
    ServiceBuilder<
        Stack<
            ActivityLayer,
            Stack<
                BodiesLayer,
                Stack<
                    AdmissionLayer,
                    Stack<DetailsLayer, Stack<CatchPanicLayer<PanicAnswer>, Identity>>,
                >,
            >,
        >,
    >,
    Identity,
>;

/// All services behind all that every call passes.
pub(super) fn routes(
    activity: &Activity,
    admission: AdmissionLayer,
    bodies: BodiesLayer,
    service: JobServiceServer<JobApi>,
    health: impl NamedService
    + Clone
    + Send
    + Sync
    + 'static
    + Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>,
) -> Result<Router<Layers>, ServeError> {
    let reflect = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let invalid = |error: tonic_reflection::server::Error| {
        system("describe the service")(io::Error::other(error))
    };
    let v1 = reflect().build_v1().map_err(invalid)?;
    let v1alpha = reflect().build_v1alpha().map_err(invalid)?;
    let layers = ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(PanicAnswer))
        .layer(DetailsLayer)
        .layer(admission)
        .layer(bodies)
        .layer(ActivityLayer::new(activity.clone()));
    Ok(tonic::transport::Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(ANSWERED_FAULTS_MAX))
        .layer(layers)
        .add_service(service)
        .add_service(health)
        .add_service(v1.max_decoding_message_size(REFLECTION_REQUEST_BYTES_MAX))
        .add_service(v1alpha.max_decoding_message_size(REFLECTION_REQUEST_BYTES_MAX)))
}
