"""Starts the real service, reaches it as a stranger would, and says what was checked.

Needs the generated stubs on PYTHONPATH (run.sh makes them). Knows nothing about single calls.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from jobwarden.v1 import job_service_pb2 as rpc
from jobwarden.v1 import job_service_pb2_grpc

START_SECONDS_MAX = 20
# The limit of any one call: a hanging service fails a check, it does not hang it.
CALL_SECONDS_MAX = 60

TERMINAL_STATES = {3, 4, 5, 6, 7}


class Failure(Exception):
    """A promise that was not kept, with the replies that show it."""


def expect(condition, what, *replies):
    """Fails with `what` and the replies unless `condition` holds."""
    if not condition:
        shown = "\n".join(f"--- reply:\n{reply}" for reply in replies)
        raise Failure(f"{what}\n{shown}")


def eventually(condition, what, seconds=10):
    """Waits until `condition` returns something true, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise Failure(f"not within {seconds} s: {what}")


@contextlib.contextmanager
def refused(code, reason=None):
    """Expects the call inside to fail with `code` and, in its details, `reason`.

    Yields a dict that then holds each kind of detail by name, `metadata` of the ErrorInfo, and the
    `trailers` of the call.
    """
    details = {}
    try:
        yield details
    except grpc.RpcError as error:
        expect(error.code() == code, f"expected {code}", error)
        status = rpc_status.from_call(error)
        expect(status is not None, "the error has no details", error)
        for packed in status.details:
            name = packed.TypeName().rsplit(".", 1)[-1]
            detail = getattr(error_details_pb2, name)()
            expect(packed.Unpack(detail), f"detail {name} cannot be read", error)
            details[name] = detail
        info = details.get("ErrorInfo")
        expect(info is not None, "the error has no ErrorInfo", error, details)
        expect(info.domain == "jobwarden.v1", "the domain is another", info)
        if reason is not None:
            expect(info.reason == reason, f"expected reason {reason}", error, info)
        details["metadata"] = dict(info.metadata)
        details["trailers"] = dict(error.trailing_metadata())
    else:
        raise Failure(f"expected {code} {reason or ''}, but the call succeeded")


class Service:
    """The program, serving one root on a Unix socket and on loopback TCP."""

    def __init__(self, binary, root, *extra):
        self.binary = str(binary)
        self.root = pathlib.Path(root)
        self.socket = self.root / "interop.sock"
        self.log = self.root.parent / f"{self.root.name}.log"
        self.extra = list(extra)
        self.process = None
        self.addresses = []
        # So that a `finally` that ends the service also runs when a step is stopped from outside.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def start(self):
        """Starts the service and returns once it has told every address."""
        self.log.touch()
        begin = self.log.stat().st_size
        # A file, not a pipe: what the service started may go on writing after its end.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--root", str(self.root)]
                + ["--listen", f"unix:{self.socket}", "--listen", "127.0.0.1:0"]
                + ["--insecure-loopback-without-token"]
                + self.extra,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def told():
            if self.process.poll() is not None:
                raise Failure(f"the service ended with {self.process.returncode}\n{self.text()}")
            lines = self.text()[begin:].splitlines()
            mark = "listening on "
            self.addresses = [line.split(mark, 1)[1] for line in lines if mark in line]
            return len(self.addresses) == 2

        eventually(told, f"two lines 'listening on', see {self.log}", START_SECONDS_MAX)
        return self

    def text(self):
        """What the service has written to its standard streams."""
        return self.log.read_bytes().decode("utf-8", "replace")

    def kill(self):
        """Ends the service as a crash would; its jobs go on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def drain(self):
        """Asks the service to stop and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def end_everything(self):
        """Ends the service and whatever belongs to its root, each by its process id."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for _ in range(5):
            left = self.leftovers()
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)

    def leftovers(self):
        """Processes that name this root, or that are jobs stored in it."""
        ids = {path.name.encode() for path in self.root.glob("jobs/*/*")}
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                arguments = (entry / "cmdline").read_bytes()
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            names = (value.split(b"=", 1) for value in variables if b"=" in value)
            job = next((value for name, value in names if name == b"JOBWARDEN_JOB_ID"), None)
            if job in ids or str(self.root).encode() + b"\0" in arguments + b"\0":
                found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def channels(self):
        """Each way to reach the service: a name and an open channel."""
        # Python sends the socket's path as authority, which HTTP/2 servers refuse.
        local = [("grpc.default_authority", "localhost")]
        yield "unix", grpc.insecure_channel(f"unix:{self.socket}", options=local)
        yield "tcp", grpc.insecure_channel(self.tcp_address())

    def tcp_address(self):
        """The loopback address with the port that the service was given."""
        return next(text for text in self.addresses if not text.startswith("unix:")).strip()


class Api:
    """One channel to the service, and short ways to say what most checks need."""

    def __init__(self, name, channel, service):
        self.name = name
        self.channel = channel
        self.service = service
        self.stub = job_service_pb2_grpc.JobServiceStub(channel)

    def __getattr__(self, call):
        """Calls `api.Exec(spec=…)` as `stub.Exec(ExecRequest(spec=…))`, with a deadline."""
        if not call[0].isupper():
            raise AttributeError(call)
        request = getattr(rpc, f"{call}Request")
        method = getattr(self.stub, call)
        return lambda **fields: method(request(**fields), timeout=CALL_SECONDS_MAX)

    def start(self, *argv, **spec):
        """Starts a job and returns it once its process runs (or has ended)."""
        job = self.Exec(spec=make_spec(argv, spec)).job
        reply = self.Wait(job_id=job.job_id, until="WAIT_UNTIL_STARTED", timeout=seconds(20))
        expect(reply.ended, "the job did not start", reply)
        return reply.job

    def run(self, *argv, **spec):
        """Runs a job to its end and returns it."""
        reply = self.Exec(spec=make_spec(argv, spec))
        return self.end_of(reply.job)

    def end_of(self, job):
        """Waits for the end of `job` and returns it as it is then."""
        reply = self.Wait(job_id=job.job_id, timeout=seconds(40))
        expect(reply.ended, "the job did not end", reply)
        expect(reply.job.state in TERMINAL_STATES, "ended, but not terminal", reply)
        expect(reply.job.stdout.complete and reply.job.stderr.complete, "incomplete", reply)
        return reply.job

    def output(self, job, **request):
        """The bytes of both streams of `job`, as TailLog brings them."""
        parts = {"LOG_STREAM_STDOUT": b"", "LOG_STREAM_STDERR": b""}
        for chunk in chunks(self.tail(job, **request)):
            parts[rpc_stream(chunk.stream)] += chunk.data or chunk.text.encode()
        return parts["LOG_STREAM_STDOUT"], parts["LOG_STREAM_STDERR"]

    def tail(self, job, **request):
        """Every message of a TailLog stream to its clean end."""
        messages = list(self.TailLog(job_id=job.job_id, **request))
        expect(messages and messages[0].WhichOneof("kind") == "header", "no header", messages)
        expect(messages[-1].WhichOneof("kind") == "end", "no end", messages)
        return messages


def chunks(messages):
    """The chunks among the messages of a TailLog stream."""
    return [message.chunk for message in messages if message.WhichOneof("kind") == "chunk"]


def begin_of(watch):
    """The token of the beginning of a watch, from the headers that come once it stands."""
    return dict(watch.initial_metadata())["jobwarden-resume-token"]


def rpc_stream(number):
    """The name of a LogStream."""
    from jobwarden.v1 import job_pb2

    return job_pb2.LogStream.Name(number)


def make_spec(argv, spec):
    """A JobSpec of a command and further fields."""
    return {**spec, "argv": list(argv)} if argv else spec


def seconds(count):
    """A Duration."""
    from google.protobuf import duration_pb2

    span = duration_pb2.Duration()
    span.FromNanoseconds(int(count * 1e9))
    return span


def unique(prefix="interop"):
    """A name that nothing else uses."""
    return f"{prefix}-{uuid.uuid4().hex}"
