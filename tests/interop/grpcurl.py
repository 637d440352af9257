"""Reaches a real service with grpcurl, as the examples in docs/API.md do.

usage: grpcurl.py BINARY FOLDER TOOLS

grpcurl knows the service by reflection alone: no proto file is given to it.
"""

import json
import pathlib
import subprocess
import sys

from harness import Failure, Service, expect


class Grpcurl:
    """grpcurl with the flags that reach one address of the service."""

    def __init__(self, program, name, *flags):
        self.command = [str(program), "-plaintext", "-max-time", "60", *flags]
        self.name = name

    def call(self, method, fails=False, **request):
        """Calls a method with a request in JSON and returns what it prints."""
        data = ["-d", json.dumps(request)]
        return self.say(*data, *self.target, f"jobwarden.v1.JobService/{method}", fails=fails)

    def say(self, *arguments, fails=False):
        done = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, timeout=90, check=False
        )
        expect((done.returncode != 0) == fails, " ".join(map(str, arguments)), done)
        return done.stderr if fails else done.stdout

    target = ()


def smoke(tool):
    """Lists, describes, runs, tails and fails over one address; yields what was checked."""
    services = tool.say(*tool.target, "list").split()
    expect("jobwarden.v1.JobService" in services, "not listed", services)
    expect("grpc.health.v1.Health" in services, "not listed", services)
    yield "lists the services"

    text = tool.say(*tool.target, "describe", "jobwarden.v1.JobService.Exec")
    expect(".jobwarden.v1.ExecRequest" in text, "not described", text)
    yield "describes a call"

    spec = {"argv": ["sh", "-c", "echo out; exit 3"]}
    reply = json.loads(tool.call("Exec", spec=spec, wait="20s", outputTailBytes=100))
    expect(reply["job"]["exitStatus"]["exitCode"] == 3, "another exit code", reply)
    expect(reply["stdoutTail"] == "out\n", "another output", reply)
    yield "runs a job to its end"

    job_id = reply["job"]["jobId"]
    text = tool.call("TailLog", job_id=job_id, follow=True, encoding="LOG_ENCODING_TEXT")
    expect('"text": "out\\n"' in text and "LOG_END_REASON_TERMINAL" in text, "no output", text)
    yield "tails its output as text"

    text = tool.call("Status", fails=True, job_id="0" * 26)
    expect("NotFound" in text and "JOB_NOT_FOUND" in text, "not readable", text)
    expect("google.rpc.ErrorInfo" in text and "jobwarden.v1" in text, "not decoded", text)
    yield "shows the details of an error"

    text = tool.say(*tool.target, "grpc.health.v1.Health/Check")
    expect("SERVING" in text, "not serving", text)
    yield "asks for the health"


def main():
    binary, folder, tools = sys.argv[1:]
    service = Service(binary, pathlib.Path(folder) / "grpcurl")
    program = pathlib.Path(tools) / "grpcurl"
    passed = 0
    try:
        service.start()
        # The authority would be the path of the socket, which HTTP/2 servers refuse.
        local = Grpcurl(program, "unix", "-unix", "-authority", "localhost")
        local.target = (str(service.socket),)
        path = Grpcurl(program, "unix", "-unix")
        text = path.say(str(service.socket), "list", fails=True)
        expect("PROTOCOL_ERROR" in text, "another error", text)
        print("ok   unix grpcurl without -authority is refused with PROTOCOL_ERROR", flush=True)
        passed += 1
        remote = Grpcurl(program, "tcp")
        remote.target = (service.tcp_address(),)
        for tool in (local, remote):
            for what in smoke(tool):
                print(f"ok   {tool.name:4} grpcurl {what}", flush=True)
                passed += 1
    except (Failure, subprocess.TimeoutExpired) as failure:
        print(f"{failure}\n--- the service:\n{service.text()[-4000:]}")
        print(f"grpcurl: {passed} passed, 1 failed")
        return 1
    finally:
        service.end_everything()
    print(f"grpcurl: {passed} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
