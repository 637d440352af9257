"""Builds a real C project as one job, kills the service on the way, and loses nothing.

usage: client.py BINARY FOLDER -- COMMAND…

Runs COMMAND twice: directly, with its output in files; and as a job of the service, following its
output while the service is killed with SIGKILL and restarted, twice. Then compares what the client
received and what the service stored with the direct run, byte for byte, and the exit codes.
"""

import os
import pathlib
import subprocess
import sys
import time

import grpc
from google.protobuf import duration_pb2

from harness import Service
from jobwarden.v1 import job_pb2, job_service_pb2 as rpc, job_service_pb2_grpc

RUN_SECONDS_MAX = 900
# The service is killed when this share of the output of the direct run has arrived.
KILL_AT = (0.3, 0.9)
STREAMS = {job_pb2.LOG_STREAM_STDOUT: "stdout", job_pb2.LOG_STREAM_STDERR: "stderr"}


def main():
    binary, folder, command = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[4:]
    begin = time.monotonic()
    expected, code = run_directly(command, folder)
    lines = sum(text.count(b"\n") for text in expected.values())
    size = sum(map(len, expected.values()))
    print(f"directly: exit code {code}, {lines} lines, {size} bytes, {passed(begin)}", flush=True)
    if lines < 20_000:
        sys.exit("that is no real input: fewer than 20,000 lines")

    begin = time.monotonic()
    service = Service(binary, folder / "root")
    try:
        service.start()
        follower = Follower(service, kill_at=[int(size * share) for share in KILL_AT])
        job = follower.run(command)
        print(
            f"as a job: {job.job_id}, {follower.kills} kills of the service,"
            f" {follower.connections} connections, {passed(begin)}",
            flush=True,
        )
        faults = compare(expected, code, follower, job)
    finally:
        service.end_everything()
    for fault in faults:
        print(f"FAIL {fault}")
    if not faults:
        print("ok   output and exit code are the same, byte for byte")
    print(f"real build: {0 if faults else 1} passed, {len(faults)} failed")
    sys.exit(1 if faults else 0)


def passed(begin):
    return f"{time.monotonic() - begin:.0f} s"


def run_directly(command, folder):
    """The output of both streams and the exit code of the command, without the service."""
    names = {name: folder / f"direct.{name}" for name in STREAMS.values()}
    with open(names["stdout"], "wb") as stdout, open(names["stderr"], "wb") as stderr:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            # What a job gets: nothing of ours but the way to programs.
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
    return {name: path.read_bytes() for name, path in names.items()}, done.returncode


class Follower:
    """Runs one job and follows its output over as many connections as it takes."""

    def __init__(self, service, kill_at):
        self.service = service
        self.kill_at = kill_at
        self.kills = 0
        self.connections = 0
        self.received = {"stdout": bytearray(), "stderr": bytearray()}
        # What each kill left for the next connection, to show that it really was in the middle.
        self.faults = []

    def run(self, command):
        request = rpc.ExecRequest(
            spec=job_pb2.JobSpec(
                argv=command,
                env={"PATH": os.environ["PATH"]},
                timeout=duration_pb2.Duration(seconds=RUN_SECONDS_MAX),
                display_name="a real build",
            ),
            request_id=f"real-build-{os.getpid()}-{time.time_ns()}",
        )
        job_id = self.connect().Exec(request, timeout=60).job.job_id
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                end = self.follow(job_id)
                if end is not None:
                    return end.job
            except grpc.RpcError as error:
                # A service that is away is the point of this run; anything else is not.
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
                time.sleep(0.1)
        sys.exit("the job did not end in time")

    def connect(self):
        self.connections += 1
        return job_service_pb2_grpc.JobServiceStub(grpc.insecure_channel(self.service.tcp_address()))

    def follow(self, job_id):
        """Follows from what has been received; returns the end of the stream, if it came."""
        offsets = {name: len(text) for name, text in self.received.items()}
        request = rpc.TailLogRequest(job_id=job_id, offsets=offsets, follow=True)
        for message in self.connect().TailLog(request, timeout=RUN_SECONDS_MAX):
            kind = message.WhichOneof("kind")
            if kind == "chunk":
                self.take(message.chunk)
            elif kind == "gap":
                self.faults.append(f"a gap in {message.gap}")
            elif kind == "end":
                return message.end
            if self.kill_at and sum(map(len, self.received.values())) >= self.kill_at[0]:
                self.kill_at.pop(0)
                self.kills += 1
                self.service.kill()
                # The job writes on with no service there; then a new one takes it up.
                time.sleep(1)
                self.service.start()
                return None
        return None

    def take(self, chunk):
        received = self.received[STREAMS[chunk.stream]]
        if chunk.offset != len(received):
            self.faults.append(f"offset {chunk.offset} after {len(received)} bytes")
        received += chunk.data


def compare(expected, code, follower, job):
    """What differs from the direct run, in words."""
    faults = list(follower.faults)
    if follower.kills != len(KILL_AT):
        faults.append(f"the service was killed {follower.kills} times only")
    for name, text in expected.items():
        info = getattr(job, name)
        stored = pathlib.Path(info.path).read_bytes()
        for what, found in (("received", follower.received[name]), ("stored", stored)):
            if found != text:
                faults.append(f"{name} {what}: {difference(text, bytes(found))}")
        if info.size_bytes != len(text) or info.dropped_bytes or not info.complete:
            faults.append(f"{name} told: {info}")
    found = job.exit_status
    if found.WhichOneof("outcome") != "exit_code" or found.exit_code != code:
        faults.append(f"exit code {code} told as {found}")
    return faults


def difference(expected, found):
    pairs = enumerate(zip(expected, found))
    at = next((at for at, (a, b) in pairs if a != b), min(len(expected), len(found)))
    return (
        f"{len(found)} bytes instead of {len(expected)}, from byte {at}:"
        f" {found[at:at + 60]!r} instead of {expected[at:at + 60]!r}"
    )


if __name__ == "__main__":
    main()
