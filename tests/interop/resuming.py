"""Checks of streams that outlive the service: whoever resumes one misses nothing and hears nothing
twice. Needs the service to itself, since it stops and starts it.
"""

import contextlib

import grpc

from events import equals_its_log, kinds, log_bytes, read_until
from harness import Service, begin_of, chunks, expect, refused, rpc_stream, unique
from restarts import reach

Code = grpc.StatusCode


@contextlib.contextmanager
def gate(service):
    """A file that jobs wait for, and the script that waits."""
    path = service.root.parent / unique("gate")
    yield path, f"until [ -e {path} ]; do sleep 0.02; done"
    path.unlink(missing_ok=True)


def stopped(service, how):
    """Ends the service in one of two ways."""
    if how == "kill":
        service.kill()
    else:
        expect(service.drain() == 0, "another exit code")


def told(messages):
    """Number, type and job of each event."""
    events = [message.event for message in messages if message.WhichOneof("kind") == "event"]
    return [(event.sequence, event.type, event.job.job_id) for event in events]


def watch_over_restarts(service):
    """a watch resumed after SIGKILL and after SIGTERM tells each event once, in order."""
    labels = {"run": unique()}
    stream = reach(service).WatchEvents(filter={"labels": labels}, start="WATCH_START_NOW")
    begin = token = begin_of(stream)
    seen, jobs = [], []
    for how in ("kill", "drain", "kill"):
        with gate(service) as (path, wait):
            jobs.append(reach(service).Exec(spec={"shell": wait, "labels": labels}).job)
            seen += read_until(stream, "STARTED")
            token = seen[-1].resume_token
            stopped(service, how)
            # The job ends while there is no service, or shortly after.
            path.touch()
            service.start()
            stream = reach(service).WatchEvents(filter={"labels": labels}, resume_token=token)
            seen += read_until(stream, "ENDED")
    stream.cancel()
    names = [name for name in kinds(seen) if name not in ("UPDATED", "bookmark")]
    expect(names == ["CREATED", "STARTED", "ENDED"] * 3, "other events", *seen)
    sequences = [sequence for sequence, _, _ in told(seen)]
    expect(sequences == sorted(set(sequences)), "out of order or twice", sequences)
    ended = [message.event.job.job_id for message in seen if kinds([message]) == ["ENDED"]]
    expect(ended == [job.job_id for job in jobs], "other jobs", *seen)

    # Who comes back from before all of it hears exactly the same.
    stream = reach(service).WatchEvents(filter={"labels": labels}, resume_token=begin)
    again = []
    while kinds(again).count("ENDED") < 3:
        again += read_until(stream, "ENDED")
    stream.cancel()
    expect(told(again) == told(seen), "another history", told(again), told(seen))


def output_over_restarts(service):
    """LOG events resumed after SIGKILL and SIGTERM are the log files, byte for byte."""
    labels = {"run": unique()}
    request = {
        "filter": {"labels": labels},
        "event_types": ["EVENT_TYPE_LOG", "EVENT_TYPE_ENDED"],
        "include_log_data": True,
    }
    stream = reach(service).WatchEvents(**request, start="WATCH_START_NOW")
    begin = begin_of(stream)
    script = "for i in $(seq 40); do seq $i 1500; echo error $i >&2; sleep 0.03; done"
    job = reach(service).Exec(spec={"shell": script, "labels": labels}).job
    seen = []
    for how in ("kill", "drain"):
        seen += read_until(stream, "LOG")
        stopped(service, how)
        service.start()
        stream = reach(service).WatchEvents(**request, resume_token=seen[-1].resume_token)
    seen += read_until(stream, "ENDED")
    stream.cancel()
    end = reach(service).end_of(job)
    expect(end.stdout.size_bytes > 0 and end.stderr.size_bytes > 0, "no output", end)
    stream = reach(service).WatchEvents(**request, resume_token=begin)
    again = read_until(stream, "ENDED")
    stream.cancel()
    for messages in (seen, again):
        parts = log_bytes(messages)
        expect(equals_its_log(parts["LOG_STREAM_STDOUT"], end.stdout), "not stdout.log", end)
        expect(equals_its_log(parts["LOG_STREAM_STDERR"], end.stderr), "not stderr.log", end)


def matches_over_a_crash(service):
    """what matched before, during and after a crash is told once."""
    labels = {"run": unique()}
    pattern = {"name": "number", "pattern": "[0-9]+"}
    stream = reach(service).WatchEvents(filter={"labels": labels}, start="WATCH_START_NOW")
    begin_of(stream)
    with gate(service) as (path, wait):
        spec = {"shell": f"echo 11; {wait}; echo 22", "labels": labels, "output_matches": [pattern]}
        reach(service).Exec(spec=spec)
        seen = read_until(stream, "OUTPUT_MATCHED")
        service.kill()
        path.touch()
        service.start()
        token = seen[-1].resume_token
        stream = reach(service).WatchEvents(filter={"labels": labels}, resume_token=token)
        seen += read_until(stream, "ENDED")
        stream.cancel()
    matches = [m.event.match for m in seen if kinds([m]) == ["OUTPUT_MATCHED"]]
    found = [(match.text, match.offset, match.end_offset) for match in matches]
    expect(found == [("11", 0, 2), ("22", 3, 5)], "other matches", *seen)


def place_in_the_trailers(service):
    """a drain ends streams with DRAINING, and their trailers say where they go on."""
    api = reach(service)
    labels = {"run": unique()}
    with gate(service) as (path, wait):
        script = f"printf out; printf error >&2; {wait}; printf put; printf s >&2"
        job = api.start(shell=script, labels=labels)
        tail = api.TailLog(job_id=job.job_id, follow=True)
        parts = {"LOG_STREAM_STDOUT": b"", "LOG_STREAM_STDERR": b""}
        for message in tail:
            for chunk in chunks([message]):
                parts[rpc_stream(chunk.stream)] += chunk.data
            if list(parts.values()) == [b"out", b"error"]:
                break
        watch = api.WatchEvents(filter={"labels": labels})
        read_until(watch, "bookmark")
        stopped(service, "drain")

        with refused(Code.UNAVAILABLE, "DRAINING") as details:
            messages = list(tail)
            expect(False, "the stream of output ended without an error", *messages)
        expect("RetryInfo" in details, "nothing about when to come back", details)
        offsets = [details["trailers"].get(f"jobwarden-{name}-offset") for name in ("stdout", "stderr")]
        expect(offsets == ["3", "5"], "other offsets", details)
        expect(details["metadata"]["stdout_offset"] == "3", "another offset", details)
        with refused(Code.UNAVAILABLE, "DRAINING") as details:
            messages = list(watch)
            expect(False, "the watch ended without an error", *messages)
        expect("RetryInfo" in details, "nothing about when to come back", details)
        token = details["trailers"].get("jobwarden-resume-token")
        expect(token and token == details["metadata"]["resume_token"], "no token", details)

        path.touch()
        service.start()
        api = reach(service)
        stdout, stderr = map(int, offsets)
        rest = api.output(job, follow=True, offsets={"stdout": stdout, "stderr": stderr})
        expect(rest == (b"put", b"s"), "not the rest", rest)
        stream = api.WatchEvents(filter={"labels": labels}, resume_token=token)
        messages = read_until(stream, "ENDED")
        stream.cancel()
        names = [name for name in kinds(messages) if name not in ("UPDATED", "bookmark")]
        expect(names == ["ENDED"], "not what came after the token", *messages)


def expired_token(service):
    """a token whose history is gone is refused before any event, or brings a new snapshot."""
    root = service.root.parent / "short"
    short = Service(service.binary, root, "--journal-max-events", "16")
    try:
        short.start()
        api = reach(short)
        stream = api.WatchEvents(start="WATCH_START_NOW")
        token = begin_of(stream)
        stream.cancel()
        ids = [api.run("true").job_id for _ in range(10)]
        with refused(Code.OUT_OF_RANGE, "TOKEN_EXPIRED") as details:
            next(api.WatchEvents(resume_token=token))
        stream = api.WatchEvents(resume_token=details["metadata"]["oldest_token"])
        known = read_until(stream, "ENDED")
        stream.cancel()
        expect(known[-1].event.job.job_id in ids, "another job", *known)

        stream = api.WatchEvents(resume_token=token, on_expired="ON_EXPIRED_RESNAPSHOT")
        messages = read_until(stream, "bookmark")
        stream.cancel()
        expect(kinds(messages) == ["reset"] + ["SNAPSHOT"] * 10 + ["bookmark"], "other", *messages)
        expect(messages[0].reset.reason, "without a reason", messages[0])
        shown = [message.event.job.job_id for message in messages[1:-1]]
        expect(shown == ids[::-1], "another snapshot", *messages)
    finally:
        short.end_everything()


CHECKS = [
    watch_over_restarts,
    output_over_restarts,
    matches_over_a_crash,
    place_in_the_trailers,
    expired_token,
]
