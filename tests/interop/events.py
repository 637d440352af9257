"""Checks of WatchEvents: snapshot, bookmark, live events, output, matches, resuming."""

import pathlib

import grpc

from harness import begin_of, expect, make_spec, refused, rpc_stream, seconds, unique
from jobwarden.v1 import job_pb2
from jobwarden.v1 import job_service_pb2 as rpc


def kinds(messages):
    """Short names of what the messages bring, without heartbeats."""
    names = []
    for message in messages:
        kind = message.WhichOneof("kind")
        if kind == "event":
            kind = rpc.EventType.Name(message.event.type).removeprefix("EVENT_TYPE_")
        if kind != "heartbeat":
            names.append(kind)
    return names


def read_until(stream, wanted):
    """Messages up to and with the first of kind `wanted`; the call's deadline bounds the wait."""
    messages = []
    for message in stream:
        messages.append(message)
        if kinds([message]) == [wanted]:
            return messages
    expect(False, f"the stream ended before {wanted}", *messages)


def snapshot_then_live(api):
    """watch shows what is there, a bookmark, and then each change of a job in order."""
    run = {"run": unique()}
    there = api.run("true", labels=run)
    stream = api.WatchEvents(filter={"labels": run})
    messages = read_until(stream, "bookmark")
    expect(kinds(messages) == ["SNAPSHOT", "bookmark"], "another snapshot", *messages)
    expect(messages[0].event.job == there, "another job", there, *messages)
    expect(messages[-1].bookmark.snapshot_end, "not the end of the snapshot", *messages)

    job = api.Exec(spec=make_spec(["sh", "-c", "sleep 0.1; exit 4"], {"labels": run})).job
    live = read_until(stream, "ENDED")
    names = [name for name in kinds(live) if name != "UPDATED"]
    expect(names == ["CREATED", "STARTED", "ENDED"], "other events", *live)
    expect({message.event.job.job_id for message in live} == {job.job_id}, "another job", *live)
    sequences = [message.event.sequence for message in live]
    expect(sequences == sorted(set(sequences)) and sequences[0] > 0, "sequences", *live)
    end = live[-1].event
    expect(end.job.exit_status.exit_code == 4, "the end without its code", end)
    expect(end.job.stdout.complete, "ended before its output was complete", end)
    expect(end.previous_state == job_pb2.JOB_STATE_RUNNING, "another state before", end)
    stream.cancel()

    # The token of the first live event continues right after it.
    resumed = api.WatchEvents(filter={"labels": run}, resume_token=live[0].resume_token)
    again = read_until(resumed, "ENDED")
    resumed.cancel()
    expect(kinds(again) == kinds(live)[1:], "not what followed the token", *again)
    expect([m.event.sequence for m in again] == sequences[1:], "other sequences", *again)


def empty_snapshot(api):
    """an empty snapshot has its bookmark too, and NOW begins without a snapshot."""
    stream = api.WatchEvents(filter={"labels": {"run": unique()}})
    first = next(stream)
    expect(first.WhichOneof("kind") == "bookmark" and first.resume_token, "no bookmark", first)
    stream.cancel()
    run = {"run": unique()}
    api.run("true", labels=run)
    stream = api.WatchEvents(filter={"labels": run}, start="WATCH_START_NOW")
    # Headers come once the watch stands: what is made after them is seen.
    stream.initial_metadata()
    job = api.Exec(spec=make_spec(["true"], {"labels": run})).job
    messages = read_until(stream, "ENDED")
    stream.cancel()
    ids = {m.event.job.job_id for m in messages if m.WhichOneof("kind") == "event"}
    expect(ids == {job.job_id} and "SNAPSHOT" not in kinds(messages), "old jobs", *messages)


def changes_and_deletion(api):
    """watch tells of changed labels and of deletion, and of chosen types only."""
    job = api.run("true")
    stream = api.WatchEvents(
        filter={"job_ids": [job.job_id]},
        event_types=["EVENT_TYPE_UPDATED", "EVENT_TYPE_DELETED"],
        start="WATCH_START_NOW",
    )
    stream.initial_metadata()
    api.UpdateLabels(job_id=job.job_id, set={"a": "1"})
    messages = read_until(stream, "UPDATED")
    expect(messages[-1].event.job.labels["a"] == "1", "another job", *messages)
    api.Delete(job_id=job.job_id)
    messages = read_until(stream, "DELETED")
    stream.cancel()
    expect(messages[-1].event.job.job_id == job.job_id, "another job", *messages)


def beginning_of_a_watch(api):
    """the headers of a watch have the token of its beginning, before any message."""
    run = {"run": unique()}
    stream = api.WatchEvents(filter={"labels": run}, start="WATCH_START_NOW")
    token = begin_of(stream)
    stream.cancel()
    job = api.run("true", labels=run)
    resumed = api.WatchEvents(filter={"labels": run}, resume_token=token)
    messages = read_until(resumed, "ENDED")
    resumed.cancel()
    names = [name for name in kinds(messages) if name not in ("UPDATED", "bookmark")]
    expect(names == ["CREATED", "STARTED", "ENDED"], "other events", *messages)
    ids = {m.event.job.job_id for m in messages if m.WhichOneof("kind") == "event"}
    expect(ids == {job.job_id}, "another job", *messages)


def log_bytes(messages):
    """The bytes of both streams that LOG events bring, each checked to be at its offset."""
    parts = {"LOG_STREAM_STDOUT": b"", "LOG_STREAM_STDERR": b""}
    for message in messages:
        if message.WhichOneof("kind") != "event" or not message.event.HasField("log"):
            continue
        log = message.event.log
        expect(not log.gaps, "bytes are missing", message)
        for chunk in log.chunks:
            stream = rpc_stream(chunk.stream)
            expect(chunk.offset == len(parts[stream]), "a gap or a repetition", message)
            parts[stream] += chunk.data
            expect(chunk.end_offset == len(parts[stream]), "another end", message)
        sizes = (log.sizes.stdout, log.sizes.stderr)
        expect(sizes == tuple(map(len, parts.values())), "other sizes", message)
    return parts


def equals_its_log(data, info):
    """Whether these are the bytes of a log file, which is missing while it is empty."""
    log = pathlib.Path(info.path)
    return data == (log.read_bytes() if log.exists() else b"")


def output_in_events(api):
    """LOG events with their bytes are the log files, byte for byte, and come before the end."""
    run = {"run": unique()}
    stream = api.WatchEvents(
        filter={"labels": run},
        event_types=["EVENT_TYPE_LOG", "EVENT_TYPE_ENDED"],
        include_log_data=True,
        start="WATCH_START_NOW",
    )
    begin_of(stream)
    script = r"printf 'a\000\377'; sleep 0.1; seq 1 30000; printf error >&2; head -c 200000 /dev/urandom"
    job = api.Exec(spec={"shell": script, "labels": run}).job
    messages = read_until(stream, "ENDED")
    stream.cancel()
    parts = log_bytes(messages)
    end = api.end_of(job)
    expect(len(parts["LOG_STREAM_STDOUT"]) == 3 + 168_894 + 200_000, "another length", end)
    expect(equals_its_log(parts["LOG_STREAM_STDOUT"], end.stdout), "not stdout.log", end)
    expect(equals_its_log(parts["LOG_STREAM_STDERR"], end.stderr), "not stderr.log", end)


def sizes_without_bytes(api):
    """LOG events without their bytes tell how much output there is."""
    run = {"run": unique()}
    types = ["EVENT_TYPE_LOG", "EVENT_TYPE_ENDED"]
    stream = api.WatchEvents(filter={"labels": run}, event_types=types, start="WATCH_START_NOW")
    begin_of(stream)
    job = api.Exec(spec={"shell": "seq 1 1000; echo error >&2", "labels": run}).job
    messages = read_until(stream, "ENDED")
    stream.cancel()
    logs = [m.event for m in messages if kinds([m]) == ["LOG"]]
    expect(logs and not any(event.log.chunks for event in logs), "no LOG, or bytes", *messages)
    last = logs[-1]
    expect((last.log.sizes.stdout, last.log.sizes.stderr) == (3893, 6), "other sizes", last)
    expect(last.job.job_id == job.job_id and last.log.attempt == 1, "another job", last)


def matches_in_output(api):
    """output that matches a text or a regular expression is told with its place, before the end."""
    run = {"run": unique()}
    stream = api.WatchEvents(filter={"labels": run}, start="WATCH_START_NOW")
    begin_of(stream)
    patterns = [
        {"name": "text", "pattern": "a.c", "literal": True},
        {"name": "number", "pattern": "[0-9]+$", "stream": "LOG_STREAM_STDOUT"},
        {"name": "first", "pattern": "^[a-z]+", "once": True, "stream": "LOG_STREAM_STDOUT"},
    ]
    script = r"printf 'abc a.c 12\nxx 34\n'; printf 'a.c 56' >&2"
    job = api.Exec(spec={"shell": script, "labels": run, "output_matches": patterns}).job
    messages = read_until(stream, "ENDED")
    stream.cancel()
    events = [m.event for m in messages if kinds([m]) == ["OUTPUT_MATCHED"]]
    out, err = "LOG_STREAM_STDOUT", "LOG_STREAM_STDERR"
    wanted = {
        ("first", out, 0, 3, "abc"),
        ("text", out, 4, 7, "a.c"),
        ("number", out, 8, 10, "12"),
        ("number", out, 14, 16, "34"),
        ("text", err, 0, 3, "a.c"),
    }
    found = [event.match for event in events]
    told = {(m.name, rpc_stream(m.stream), m.offset, m.end_offset, m.text) for m in found}
    expect(told == wanted and len(found) == len(wanted), "other matches", *messages)
    expect({event.job.job_id for event in events} == {job.job_id}, "another job", *messages)
    log = pathlib.Path(api.end_of(job).stdout.path).read_bytes()
    for match in found:
        if rpc_stream(match.stream) == out:
            text = log[match.offset : match.end_offset]
            expect(text == match.text.encode(), "not what stands there", match)


def heartbeats(api):
    """a watch without events shows that it lives, at the interval that was asked for."""
    stream = api.WatchEvents(
        filter={"labels": {"run": unique()}},
        start="WATCH_START_NOW",
        heartbeat_interval=seconds(1),
    )
    message = next(m for m in stream if m.WhichOneof("kind") != "bookmark")
    stream.cancel()
    expect(message.WhichOneof("kind") == "heartbeat", "another message", message)
    expect(message.resume_token and message.heartbeat.time.seconds > 0, "empty", message)


def foreign_token(api):
    """a token that this store did not make is refused."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        next(api.WatchEvents(resume_token="bm90IGEgdG9rZW4"))


CHECKS = [
    snapshot_then_live,
    empty_snapshot,
    changes_and_deletion,
    beginning_of_a_watch,
    output_in_events,
    sizes_without_bytes,
    matches_in_output,
    heartbeats,
    foreign_token,
]
