"""Checks of jobs: exec, wait, list, kill, cancel, delete, rerun, labels, limits, secrets."""

import concurrent.futures
import hashlib
import pathlib
import re

import grpc

from harness import Failure, eventually, expect, make_spec, refused, seconds, unique
from jobwarden.v1 import job_pb2

Code = grpc.StatusCode
State = job_pb2.JobState
Cause = job_pb2.EndCause


def is_ended(job, state, cause):
    """Whether `job` ended in this state for this cause, given by their short names."""
    states = State.Value(f"JOB_STATE_{state}"), Cause.Value(f"END_CAUSE_{cause}")
    return (job.state, job.cause) == states


def exec_and_wait(api):
    """exec runs a command, waits for its end and tells its output and exit code."""
    spec = make_spec(["sh", "-c", "echo out; echo err >&2; exit 7"], {"display_name": "seven"})
    reply = api.Exec(spec=spec, wait=seconds(20), output_tail_bytes=1000)
    job = reply.job
    expect(is_ended(job, "FAILED", "EXITED"), "not FAILED by EXITED", reply)
    expect(job.exit_status.WhichOneof("outcome") == "exit_code", "no exit code", reply)
    expect(job.exit_status.exit_code == 7, "not 7", reply)
    expect((reply.stdout_tail, reply.stderr_tail) == ("out\n", "err\n"), "other output", reply)
    expect(re.fullmatch("[0-9a-z]{26}", job.job_id), "another kind of id", reply)
    times = [at.ToNanoseconds() for at in (job.create_time, job.start_time, job.end_time)]
    expect(0 < times[0] <= times[1] <= times[2], "times out of order", reply)
    expect(job.owner and job.attempt == 1 and job.revision > 0, "owner or counters", reply)
    expect(job.stdout.size_bytes == 4 and job.stdout.complete, "stdout incomplete", reply)
    expect(pathlib.Path(job.stdout.path).read_bytes() == b"out\n", "another log file", reply)
    expect(job.spec.display_name == "seven", "another spec", reply)
    expect(is_ended(api.run("true"), "SUCCEEDED", "EXITED"), "true did not succeed")


def exec_signal(api):
    """a job that dies of a signal tells which one."""
    job = api.run(shell="kill -SEGV $$")
    expect(is_ended(job, "FAILED", "SIGNALED"), "not FAILED by SIGNALED", job)
    expect(job.exit_status.WhichOneof("outcome") == "signal", "no signal", job)
    expect(job.exit_status.signal == 11, "not 11", job)
    expect(job.exit_status.signal_name == "SIGSEGV", "another name", job)


def exec_missing_program(api):
    """a missing program is a launch error of the job, neither a failed call nor exit code 127."""
    job = api.run("/no/such/program")
    expect(is_ended(job, "FAILED", "LAUNCH_FAILED"), "not LAUNCH_FAILED", job)
    expect(job.launch_error.errno_name == "ENOENT", "not ENOENT", job)
    expect(job.launch_error.errno == 2 and job.launch_error.stage, "stage or errno", job)
    expect(not job.HasField("exit_status"), "an exit status for what never ran", job)


def exec_request_id(api):
    """a repeated request id gives the same job, also in parallel, and another spec is refused."""
    name = unique()
    spec = make_spec(["sleep", "0.1"], {})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(api.Exec, spec=spec, request_id=name) for _ in range(16)]
        replies = [call.result() for call in calls]
    expect(len({reply.job.job_id for reply in replies}) == 1, "several jobs", *replies)
    firsts = [reply for reply in replies if not reply.deduplicated]
    expect(len(firsts) == 1, "not exactly one was new", *replies)
    with refused(Code.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        api.Exec(spec=make_spec(["sleep", "0.2"], {}), request_id=name)


def exec_surroundings(api):
    """a job gets its directory, variables and input, and a clean environment."""
    job = api.run(
        shell='pwd; echo "$GREETING $JOBWARDEN_JOB_ID"; cat; env | cut -d= -f1 | sort | tr "\\n" " "',
        working_dir="/usr",
        env={"GREETING": "hello"},
        stdin=b"from stdin\0\n",
    )
    stdout, _ = api.output(job)
    head = f"/usr\nhello {job.job_id}\nfrom stdin\0\n".encode()
    expect(stdout.startswith(head), "another beginning", stdout)
    names = set(stdout[len(head) :].decode().split())
    allowed = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "GREETING", "PWD", "OLDPWD", "_"}
    foreign = {name for name in names - allowed if not name.startswith(("JOBWARDEN_", "SHLVL"))}
    expect(not foreign, f"variables that nobody asked for: {foreign}", stdout)
    expect(job.spec.stdin == b"", "stdin in a reply", job)


def secrets_stay_secret(api):
    """a secret reaches the process and no reply, list, log, argument or readable file."""
    secret = unique("secret")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    label = unique()
    spec = {
        "shell": 'printf %s "$TOKEN" | sha256sum | cut -d" " -f1; sleep 0.3',
        "secret_env": {"TOKEN": secret},
        "labels": {"run": label},
    }
    first = api.Exec(spec=spec, request_id=label)
    arguments = b"".join(read_quietly(path) for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"))
    job = api.end_of(first.job)
    stdout, _ = api.output(job)
    expect(stdout.decode().strip() == digest, "the process got another value", stdout)
    replies = [first, job, api.Status(job_id=job.job_id), api.Exec(spec=spec, request_id=label)]
    replies.append(api.List(filter={"labels": {"run": label}}))
    for reply in replies:
        expect(secret.encode() not in reply.SerializeToString(), "a secret in a reply", reply)
    expect(secret.encode() not in arguments, "a secret among the arguments of a process")
    expect(secret not in api.service.text(), "a secret in the log of the service")
    for path in api.service.root.rglob("*"):
        if path.is_file() and secret.encode() in read_quietly(path):
            expect(path.stat().st_mode & 0o077 == 0, f"a secret that others can read: {path}")


def read_quietly(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def wait_is_bounded(api):
    """wait answers at its limit with the job as it is, and takes a prefix of an id."""
    job = api.start("sleep", "60")
    reply = api.Wait(job_id=job.job_id[:25], timeout=seconds(0.2))
    expect(not reply.ended and reply.job.state == State.JOB_STATE_RUNNING, "not running", reply)
    expect(reply.job.pid > 0, "no pid while it runs", reply)
    reply = api.Wait(job_id=job.job_id, timeout=seconds(0))
    expect(not reply.ended, "ended without time", reply)
    api.Delete(job_id=job.job_id, force=True)


def wait_many(api):
    """wait_many waits for any or for all of several jobs."""
    slow, quick = api.start("sleep", "60"), api.start("true")
    ids = [slow.job_id, quick.job_id]
    reply = api.WaitMany(job_ids=ids, mode="WAIT_MODE_ANY", timeout=seconds(20))
    expect(reply.done, "no one ended", reply)
    expect([job.job_id for job in reply.jobs] == ids, "another order", reply)
    reply = api.WaitMany(job_ids=ids, mode="WAIT_MODE_ALL", timeout=seconds(0.2))
    expect(not reply.done, "all ended", reply)
    api.Kill(job_id=slow.job_id, signal=9)
    reply = api.WaitMany(job_ids=ids, timeout=seconds(20))
    expect(reply.done, "not all ended", reply)


def kill_sends_a_signal(api):
    """kill sends one signal, which the job's end names; afterwards it does nothing."""
    job = api.start("sleep", "60")
    reply = api.Kill(job_id=job.job_id)
    expect(reply.delivered, "not delivered", reply)
    job = api.end_of(job)
    expect(is_ended(job, "FAILED", "KILLED"), "not KILLED", job)
    expect(job.exit_status.signal == 15, "not SIGTERM", job)
    expect(len(job.kills) == 1 and job.kills[0].signal == 15, "not recorded", job)
    expect(job.kills[0].actor.principal, "recorded without who", job)
    reply = api.Kill(job_id=job.job_id, signal=9)
    expect(not reply.delivered, "delivered to an ended job", reply)
    with refused(Code.INVALID_ARGUMENT):
        api.Kill(job_id=job.job_id, signal=99)


def kill_reaches_the_tree(api):
    """SIGKILL leaves no process behind, daemonised ones included."""
    mark = unique()
    # What a daemon does: a new session, no terminal, no pipes, and a parent that has gone.
    daemon = f"setsid sh -c 'exec sh -c \"sleep 61; : {mark}\" </dev/null >/dev/null 2>&1' &"
    job = api.start("sh", "-c", f"{daemon} {daemon} trap '' TERM; sleep 62; : {mark}")
    eventually(lambda: len(running_with(mark)) >= 3, "the daemons run")
    api.Kill(job_id=job.job_id, signal=9)
    job = api.end_of(job)
    expect(job.exit_status.signal == 9, "not SIGKILL", job)
    expect(not running_with(mark), f"left behind: {running_with(mark)}", job)


def running_with(mark):
    """The processes that have `mark` among their arguments."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        if mark.encode() in read_quietly(path):
            found.append(int(path.parent.name))
    return found


def cancel_stops_a_job(api):
    """cancel escalates to SIGKILL after the grace period and may be repeated."""
    job = api.start(shell="trap '' TERM; echo ready; while :; do sleep 0.1; done")
    eventually(lambda: api.Status(job_id=job.job_id).job.stdout.size_bytes, "the job is ready")
    reply = api.Cancel(job_id=job.job_id, reason="enough", grace_period=seconds(0.3))
    expect(reply.job.cancel.reason == "enough", "no reason", reply)
    expect(reply.job.cancel.actor.principal, "no actor", reply)
    api.Cancel(job_id=job.job_id, reason="again")
    job = api.end_of(job)
    expect(is_ended(job, "CANCELLED", "CANCELLED"), "not CANCELLED", job)
    expect(job.exit_status.signal == 9, "not by SIGKILL", job)
    expect(job.cancel.reason == "enough", "another reason", job)
    api.Cancel(job_id=job.job_id)
    with refused(Code.FAILED_PRECONDITION, "JOB_ENDED"):
        api.Cancel(job_id=api.run("true").job_id)


def cancel_by_hand(api):
    """a file `cancel` dropped into a job's folder cancels it."""
    job = api.start("sleep", "60")
    (folder,) = api.service.root.glob(f"jobs/*/{job.job_id}")
    (folder / "cancel").touch()
    job = api.end_of(job)
    expect(is_ended(job, "CANCELLED", "CANCELLED"), "not CANCELLED", job)


def time_limits(api):
    """the limits on run time and on silence end a job."""
    job = api.run("sleep", "60", timeout=seconds(0.3))
    expect(is_ended(job, "TIMED_OUT", "TIMED_OUT"), "not TIMED_OUT", job)
    job = api.run("sleep", "60", idle_timeout=seconds(0.3))
    expect(is_ended(job, "TIMED_OUT", "IDLE_TIMED_OUT"), "not IDLE_TIMED_OUT", job)


def update_timeout(api):
    """the time limit of a running job can be set and cleared, and of an ended one not."""
    job = api.start("sleep", "0.8", timeout=seconds(0.6))
    api.UpdateTimeout(job_id=job.job_id, clear=True)
    job = api.end_of(job)
    expect(is_ended(job, "SUCCEEDED", "EXITED"), "the limit was not cleared", job)
    with refused(Code.FAILED_PRECONDITION, "JOB_ENDED"):
        api.UpdateTimeout(job_id=job.job_id, timeout=seconds(1))
    job = api.start("sleep", "60")
    api.UpdateTimeout(job_id=job.job_id, timeout=seconds(0.2))
    expect(is_ended(api.end_of(job), "TIMED_OUT", "TIMED_OUT"), "the limit was not set", job)


def list_pages(api):
    """list gives pages, newest first, which stay stable while jobs come and go."""
    run = {"run": unique()}
    made = [api.Exec(spec=make_spec(["true"], {"labels": run})).job.job_id for _ in range(7)]
    expect(made == sorted(made), "ids do not increase", made)
    seen, token, sizes = [], "", []
    while True:
        page = api.List(page_size=3, page_token=token, filter={"labels": run})
        seen += [job.job_id for job in page.jobs]
        sizes.append(len(page.jobs))
        token = page.next_page_token
        if not token:
            break
        api.Exec(spec=make_spec(["true"], {"labels": run}))
    expect(seen == made[::-1], "jobs missing, doubled or out of order", made, seen)
    expect(sizes[:2] == [3, 3], "another page size", sizes)
    expect(page.unreadable_count == 0, "unreadable folders", page)


def list_filters(api):
    """list selects by id, state, owner and time."""
    run = {"run": unique()}
    bad, good = api.run("false", labels=run), api.run("true", labels=run)

    def ids(**filter):
        return [job.job_id for job in api.List(filter={"labels": run, **filter}).jobs]

    expect(ids(states=["JOB_STATE_FAILED"]) == [bad.job_id], "by state", ids())
    expect(ids(job_ids=[good.job_id]) == [good.job_id], "by id", ids())
    expect(ids(owner=good.owner) == [good.job_id, bad.job_id], "by owner", ids())
    expect(ids(owner="nobody else") == [], "by another owner", ids())
    expect(ids(created_after=good.create_time) == [good.job_id], "by time", ids())
    expect(ids(created_before=good.create_time) == [bad.job_id], "by time before", ids())


def delete(api):
    """delete removes an ended job, and an active one only by force."""
    job = api.start("sleep", "60")
    with refused(Code.FAILED_PRECONDITION, "JOB_ACTIVE"):
        api.Delete(job_id=job.job_id)
    api.Delete(job_id=job.job_id, force=True)
    with refused(Code.NOT_FOUND, "JOB_NOT_FOUND"):
        api.Status(job_id=job.job_id)
    with refused(Code.NOT_FOUND, "JOB_NOT_FOUND"):
        api.Delete(job_id=job.job_id)
    api.Delete(job_id=job.job_id, allow_missing=True)
    left = list(api.service.root.glob(f"jobs/*/{job.job_id}"))
    expect(not left, f"left on disk: {left}")
    expect(not is_running(job.pid), "left running", job)
    job = api.run("true")
    api.Delete(job_id=job.job_id)


def is_running(pid):
    """Whether a process runs. Its supervisor keeps a dead one as a zombie until its end is told."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def rerun(api):
    """rerun makes a new job from an old spec, and asks for its secrets again."""
    old = api.run(shell="echo again; exit 3", labels={"kind": "probe"})
    name = unique()
    reply = api.Rerun(job_id=old.job_id, request_id=name)
    new = api.end_of(reply.job)
    expect(new.job_id != old.job_id and new.exit_status.exit_code == 3, "not a new run", new)
    expect(new.labels["jobwarden/rerun-of"] == old.job_id, "not linked", new)
    expect(new.labels["kind"] == "probe", "labels lost", new)
    again = api.Rerun(job_id=old.job_id, request_id=name)
    expect(again.deduplicated and again.job.job_id == new.job_id, "run twice", again)
    old = api.run(shell="test -n \"$KEY\"", secret_env={"KEY": unique()})
    with refused(Code.FAILED_PRECONDITION) as error:
        api.Rerun(job_id=old.job_id)
    expect("KEY" in str(error), "the missing key is not named", error)
    new = api.end_of(api.Rerun(job_id=old.job_id, secret_env={"KEY": "x"}).job)
    expect(is_ended(new, "SUCCEEDED", "EXITED"), "without its secret", new)


def update_labels(api):
    """labels can be set and removed, also after the end, and the spec keeps its own."""
    job = api.run("true", labels={"a": "1", "b": "2"})
    reply = api.UpdateLabels(job_id=job.job_id, set={"c": "3"}, remove=["a", "zz"])
    expect(dict(reply.job.labels) == {"b": "2", "c": "3"}, "other labels", reply)
    expect(dict(reply.job.spec.labels) == {"a": "1", "b": "2"}, "another spec", reply)
    expect(reply.job.revision > job.revision, "the revision did not grow", job, reply)
    with refused(Code.INVALID_ARGUMENT, "INVALID_SPEC"):
        api.UpdateLabels(job_id=job.job_id, set={"Not A Key": "x"})


def unreadable_prefix(api):
    """an ambiguous prefix is refused with candidates."""
    job = api.run("true")
    api.run("true")
    with refused(Code.INVALID_ARGUMENT, "AMBIGUOUS_JOB_ID"):
        api.Status(job_id=job.job_id[:4])
    whole = api.Status(job_id=job.job_id).job
    if whole.job_id != job.job_id:
        raise Failure("an exact id gave another job")


CHECKS = [
    exec_and_wait,
    exec_signal,
    exec_missing_program,
    exec_request_id,
    exec_surroundings,
    secrets_stay_secret,
    wait_is_bounded,
    wait_many,
    kill_sends_a_signal,
    kill_reaches_the_tree,
    cancel_stops_a_job,
    cancel_by_hand,
    time_limits,
    update_timeout,
    list_pages,
    list_filters,
    delete,
    rerun,
    update_labels,
    unreadable_prefix,
]
