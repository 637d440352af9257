"""Checks of TailLog: exact bytes, text, following, offsets, limits, order."""

import grpc

from harness import chunks, expect, refused, rpc_stream, seconds
from jobwarden.v1 import job_service_pb2 as rpc

Code = grpc.StatusCode
OUT, ERR = "LOG_STREAM_STDOUT", "LOG_STREAM_STDERR"


def end_reason(messages):
    """The short name of why a stream ended."""
    return rpc.LogEndReason.Name(messages[-1].end.reason).removeprefix("LOG_END_REASON_")


def exact_bytes(api):
    """tail brings every byte of both streams once, whatever the bytes are."""
    job = api.run(shell=r"printf 'a\000\377\nb'; printf 'no newline' >&2")
    messages = api.tail(job)
    expect(api.output(job) == (b"a\0\xff\nb", b"no newline"), "other bytes", *messages)
    expect(messages[-1].end.complete, "not complete", *messages)
    expect(messages[-1].end.offsets.stdout == 5, "another end", *messages)
    expect(messages[-1].end.job.job_id == job.job_id, "no job at the end", *messages)
    expect(messages[0].header.attempt == 1, "another attempt", *messages)
    expect(messages[0].header.sizes.stderr == 10, "another size", *messages)
    at = {OUT: 0, ERR: 0}
    for chunk in chunks(messages):
        stream = rpc_stream(chunk.stream)
        expect(chunk.offset == at[stream], "a gap or a repetition", *messages)
        expect(chunk.end_offset - chunk.offset == len(chunk.data), "other offsets", chunk)
        at[stream] = chunk.end_offset
    expect(api.output(job, streams=[ERR]) == (b"", b"no newline"), "not one stream alone")


def large_output(api):
    """tail brings megabytes as they are on disk."""
    job = api.run(shell="head -c 3000000 /dev/urandom; seq 1 50000 >&2", timeout=seconds(30))
    stdout, stderr = api.output(job)
    with open(job.stdout.path, "rb") as log:
        expect(stdout == log.read(), "other bytes than in stdout.log", len(stdout))
    expect(len(stdout) == 3_000_000, "another length", len(stdout))
    expect(stderr.splitlines()[-1] == b"50000", "the last line is lost", stderr[-20:])


def text_splits_no_character(api):
    """text never splits a character and replaces only what is invalid."""
    # The two bytes of an e with an acute accent, written apart; then a byte that is no text.
    job = api.Exec(spec={"shell": r"printf 'caf\303'; sleep 0.3; printf '\251 \377!\n'"}).job
    messages = api.tail(job, follow=True, encoding="LOG_ENCODING_TEXT")
    text = "".join(chunk.text for chunk in chunks(messages))
    expect(text == "caf\u00e9 \ufffd!\n", "another text", *messages)
    expect(messages[-1].end.offsets.stdout == 9, "offsets do not count raw bytes", *messages)
    for chunk in chunks(messages):
        expect(chunk.WhichOneof("content") == "text", "bytes instead of text", chunk)


def follow_ends_by_itself(api):
    """follow brings output as it comes, keeps the last line and ends with the job."""
    job = api.Exec(spec={"shell": "for i in 1 2 3; do echo $i; sleep 0.1; done; printf last"}).job
    messages = api.tail(job, follow=True)
    text = b"".join(chunk.data for chunk in chunks(messages))
    expect(text == b"1\n2\n3\nlast", "other bytes", *messages)
    expect(end_reason(messages) == "TERMINAL", "not TERMINAL", *messages)
    expect(len(chunks(messages)) >= 3, "all at once, not as it came", *messages)
    times = [chunk.time.ToNanoseconds() for chunk in chunks(messages)]
    expect(times == sorted(times) and times[0] > 0, "times out of order", *messages)


def both_streams_keep_their_order(api):
    """both streams come in the order in which the job wrote them."""
    job = api.run(shell="for i in 1 2 3 4 5; do echo o$i; sleep 0.02; echo e$i >&2; sleep 0.02; done")
    messages = api.tail(job)
    text = b"".join(chunk.data for chunk in chunks(messages)).decode().split()
    expect(text == [f"{s}{i}" for i in range(1, 6) for s in "oe"], "another order", *messages)


def starting_points(api):
    """tail starts at offsets, lines or bytes before the end, and ends at a limit."""
    job = api.run(shell="seq 1 9; echo error >&2")
    expect(api.output(job, offsets={"stdout": 14, "stderr": 6}) == (b"8\n9\n", b""), "offsets")
    expect(api.output(job, last_lines=2) == (b"8\n9\n", b"error\n"), "last lines")
    expect(api.output(job, last_bytes=3) == (b"\n9\n", b"or\n"), "last bytes")
    messages = api.tail(job, streams=[OUT], max_bytes=5)
    text = b"".join(chunk.data for chunk in chunks(messages))
    expect(text == b"1\n2\n3", "another limit", *messages)
    expect(end_reason(messages) == "LIMIT", "not LIMIT", *messages)
    expect(messages[-1].end.offsets.stdout == 5, "no offset to go on from", *messages)
    with refused(Code.OUT_OF_RANGE, "OFFSET_BEYOND_END"):
        api.tail(job, offsets={"stdout": 1000})


def snapshot_of_a_running_job(api):
    """without follow, tail of a running job ends with what is there."""
    job = api.start(shell="echo first; sleep 60")
    follow = api.TailLog(job_id=job.job_id, follow=True)
    for message in follow:
        if message.WhichOneof("kind") == "chunk":
            break
    follow.cancel()
    messages = api.tail(job)
    expect(end_reason(messages) == "SNAPSHOT", "not SNAPSHOT", *messages)
    expect(not messages[-1].end.complete, "complete while it runs", *messages)
    expect(b"".join(chunk.data for chunk in chunks(messages)) == b"first\n", "other", *messages)
    api.Delete(job_id=job.job_id, force=True)


def merged_output(api):
    """merge_output sends both streams through one, in exact order."""
    job = api.run(shell="echo 1; echo 2 >&2; echo 3; echo 4 >&2", merge_output=True)
    expect(api.output(job) == (b"1\n2\n3\n4\n", b""), "another order", job)


def deletion_ends_a_stream(api):
    """an open stream ends with DELETED when its job is deleted."""
    job = api.start("sleep", "60")
    stream = api.TailLog(job_id=job.job_id, follow=True)
    expect(next(stream).WhichOneof("kind") == "header", "no header")
    api.Delete(job_id=job.job_id, force=True)
    messages = list(stream)
    expect(messages and messages[-1].WhichOneof("kind") == "end", "no end", *messages)
    expect(end_reason(messages) == "DELETED", "not DELETED", *messages)


def gap_after_a_limit(api):
    """output beyond its limit is told as a gap and counted."""
    job = api.run(shell="seq 1 100000; printf short >&2", output_limits={"max_bytes_per_stream": 10})
    expect((job.stdout.size_bytes, job.stdout.dropped_bytes) == (588_895, 588_885), "counts", job)
    expect(job.stderr.dropped_bytes == 0, "the other stream lost something", job)
    messages = api.tail(job)
    expect(api.output(job) == (b"1\n2\n3\n4\n5\n", b"short"), "another head", *messages)
    gaps = [message.gap for message in messages if message.WhichOneof("kind") == "gap"]
    at = 10
    for gap in gaps:
        # `from` is a word of the language.
        expect(getattr(gap, "from") == at and rpc_stream(gap.stream) == OUT, "not next", gap)
        expect(gap.reason == "output_limit", "another reason", gap)
        at = gap.to
    expect(at == 588_895 == messages[-1].end.offsets.stdout, "not to the end", *messages)
    expect(messages[-1].end.complete, "not complete", *messages)
    with open(job.stdout.path, "rb") as log:
        expect(log.read() == b"1\n2\n3\n4\n5\n", "more than the limit on disk")


def heartbeats(api):
    """following a silent job brings heartbeats at the interval that was asked for."""
    job = api.start("sleep", "60")
    stream = api.TailLog(job_id=job.job_id, follow=True, heartbeat_interval=seconds(1))
    expect(next(stream).WhichOneof("kind") == "header", "no header")
    message = next(stream)
    stream.cancel()
    expect(message.WhichOneof("kind") == "heartbeat", "another message", message)
    expect(message.heartbeat.time.seconds > 0, "without its time", message)
    api.Delete(job_id=job.job_id, force=True)


CHECKS = [
    exact_bytes,
    large_output,
    text_splits_no_character,
    follow_ends_by_itself,
    both_streams_keep_their_order,
    starting_points,
    snapshot_of_a_running_job,
    merged_output,
    deletion_ends_a_stream,
    gap_after_a_limit,
    heartbeats,
]
