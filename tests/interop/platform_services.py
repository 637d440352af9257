"""Checks of what comes with the service: health, reflection, what it says of itself."""

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from google.protobuf import descriptor_pb2
from harness import expect

NAME = "jobwarden.v1.JobService"


def health(api):
    """the health service says SERVING, as a whole and for the job service."""
    stub = health_pb2_grpc.HealthStub(api.channel)
    for name in ("", NAME):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        expect(reply.status == health_pb2.HealthCheckResponse.SERVING, f"health of {name!r}", reply)


def reflect(api, version, **request):
    """One question to a reflection service; both versions have the same messages."""
    call = api.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest(**request)
    (reply,) = call(iter([question]), timeout=10)
    return reply


def reflection(api):
    """reflection v1 and v1alpha list the service and describe it and its error details."""
    for version in ("v1", "v1alpha"):
        reply = reflect(api, version, list_services="")
        names = {service.name for service in reply.list_services_response.service}
        expect({NAME, "grpc.health.v1.Health"} <= names, f"{version} lists others", reply)
        reply = reflect(api, version, file_containing_symbol=NAME)
        files = reply.file_descriptor_response.file_descriptor_proto
        expect(files, f"{version} does not describe {NAME}", reply)
        described = descriptor_pb2.FileDescriptorProto.FromString(files[0])
        expect(described.package == "jobwarden.v1", "another package", described.package)
        reply = reflect(api, version, file_containing_symbol="google.rpc.ErrorInfo")
        expect(reply.file_descriptor_response.file_descriptor_proto, "no ErrorInfo", reply)


def server_info(api):
    """the service tells its version, its limits and how many jobs it has."""
    api.run("true")
    reply = api.GetServerInfo()
    expect(reply.version and reply.store_id and reply.HasField("start_time"), "who it is", reply)
    limits = reply.limits
    expect(limits.max_running_jobs > 0 and limits.max_queued_jobs > 0, "limits", reply)
    expect(limits.max_stdin_bytes > 0 and limits.max_streams > 0, "limits", reply)
    expect(sum(count.count for count in reply.counts) > 0, "no jobs counted", reply)
    expect(reply.durability in ("power", "process"), "durability", reply)


CHECKS = [health, reflection, server_info]
