"""Checks over the death of the service: nothing that it acknowledged depends on its memory."""

from harness import Api, expect, make_spec, seconds, unique
from jobwarden.v1 import job_pb2


def reach(service):
    """An Api over a new connection to the service as it is now."""
    name, channel = next(service.channels())
    return Api(name, channel, service)


def crash(service):
    """after SIGKILL and a restart, jobs have gone on, and request ids and the list are the same."""
    api = reach(service)
    name, run = unique(), {"run": unique()}
    spec = make_spec(
        ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done; exit 6"],
        {"labels": run},
    )
    job = api.Exec(spec=spec, request_id=name).job
    api.Wait(job_id=job.job_id, until="WAIT_UNTIL_STARTED", timeout=seconds(20))
    ended = api.run("true", labels=run)
    service.kill()
    service.start()

    api = reach(service)
    again = api.Exec(spec=spec, request_id=name)
    expect(again.deduplicated and again.job.job_id == job.job_id, "another job", again)
    listed = [found.job_id for found in api.List(filter={"labels": run}).jobs]
    expect(listed == [ended.job_id, job.job_id], "another list", listed)
    expect(api.Status(job_id=ended.job_id).job.state == ended.state, "another end")
    end = api.end_of(job)
    expect(end.exit_status.exit_code == 6, "another exit code", end)
    stdout, _ = api.output(end)
    expect(stdout == b"1\n2\n3\n4\n5\n6\n7\n8\n", "output lost or doubled", stdout)
    newer = api.run("true")
    expect(newer.job_id > job.job_id and newer.job_id > ended.job_id, "ids went back", newer)


def shutdown(service):
    """SIGTERM ends open streams, exits with 0 and leaves jobs running for the next service."""
    api = reach(service)
    job = api.start("sh", "-c", "sleep 1; echo done")
    stream = api.TailLog(job_id=job.job_id, follow=True)
    expect(next(stream).WhichOneof("kind") == "header", "no header")
    watch = api.WatchEvents(start="WATCH_START_NOW")
    watch.initial_metadata()
    expect(service.drain() == 0, "another exit code")
    service.start()
    end = reach(service).end_of(job)
    expect(end.state == job_pb2.JOB_STATE_SUCCEEDED, "the job did not go on", end)
    expect(reach(service).output(end)[0] == b"done\n", "output lost", end)


CHECKS = [crash, shutdown]
