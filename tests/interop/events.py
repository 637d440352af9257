"""Checks of WatchEvents: snapshot, bookmark, live events, resuming."""

import grpc

from harness import expect, make_spec, refused, unique
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


def foreign_token(api):
    """a token that this store did not make is refused."""
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        next(api.WatchEvents(resume_token="bm90IGEgdG9rZW4"))


CHECKS = [snapshot_then_live, empty_snapshot, changes_and_deletion, foreign_token]
