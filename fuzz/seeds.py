#!/usr/bin/env python3
"""Makes the seeds in fuzz/corpus from what a service writes.

usage: fuzz/seeds.py target/debug/jobwarden

Runs a few jobs in a temporary task directory, takes their files and those in tests/data/v1, leaves
out the checksums (the targets put them in) and writes a few small seeds for each target. Files whose
names do not begin with "seed-" are inputs that once failed; they are kept.
"""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent
MARK = b"\n====\n"
SEEDS_MAX = 5
SEED_BYTES_MAX = 6000


class Corpus:
    """Writes seeds, a few for each target, none twice."""

    def __init__(self):
        self.seeds = {}

    def add(self, target, data):
        if isinstance(data, str):
            data = data.encode()
        seeds = self.seeds.setdefault(target, [])
        if data and len(data) <= SEED_BYTES_MAX and len(seeds) < SEEDS_MAX and data not in seeds:
            seeds.append(data)

    def write(self):
        for target, seeds in self.seeds.items():
            folder = TOP / "corpus" / target
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("seed-*"):
                old.unlink()
            for number, seed in enumerate(seeds, 1):
                (folder / f"seed-{number}").write_bytes(seed)


def run_jobs(program, root):
    """Runs jobs that leave a file of each kind, and ends the service as it should end."""
    environment = {**os.environ, "JOBWARDEN_ROOT": str(root), "JOBWARDEN_DURABILITY": "process"}

    def call(*arguments):
        done = subprocess.run(
            [program, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout.split()[0] if done.stdout else ""

    service = subprocess.Popen(
        [program, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (root / "jobwarden.sock").exists():
            time.sleep(0.05)
        call("exec", "--wait", "--match", "ready=re[a-z]*y", "--match-literal", "bang=!",
             "--label", "team=red", "--shell", "echo ready; echo oh! >&2; sleep 0.05; echo ready é")
        call("exec", "--wait", "--output-limit", "65536", "--output-limit-action", "keep-tail",
             "--shell", "head -c 2000 /dev/zero; sleep 0.05; head -c 200000 /dev/zero")
        call("exec", "--wait", "--timeout", "100ms", "--env", "A=b", "--", "sleep", "100")
        running = call("exec", "--grace", "1s", "--request-id", "r-1", "--", "sleep", "100")
        call("timeout", running, "1h")
        call("labels", running, "a=1", "b=2")
        call("kill", "--signal", "CONT", running)
        time.sleep(0.3)
        call("cancel", "--reason", "no longer wanted", running)
        call("wait", running)
        call("exec", "--wait", "--", "/no/such/program")
        time.sleep(0.3)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=30)


def unsealed(data):
    """The lines of a file of slots or sealed lines, without their checksums."""
    lines = []
    for line in data.decode().splitlines():
        if line.strip():
            members = json.loads(line)
            members.pop("crc", None)
            lines.append(json.dumps(members, separators=(",", ":"), ensure_ascii=False))
    return ("\n".join(lines) + "\n").encode() if lines else b""


def read(path):
    return path.read_bytes() if path.exists() else b""


def add_job(corpus, folder):
    """Adds the files of a job's folder, one by one and together."""
    spec, state = read(folder / "spec.json"), unsealed(read(folder / "state.jsonl"))
    control = unsealed(read(folder / "control.jsonl"))
    cancel, labels = read(folder / "cancel"), read(folder / "labels.json")
    timeout, index = read(folder / "timeout.json"), read(folder / "output.index")
    cut, stdout = read(folder / "output.cut"), read(folder / "stdout.log")
    kill = b'{"signal":15,"scope":"tree","time":"2026-11-21T12:00:00Z","actor":{"peer":"unix"}}'
    corpus.add("spec_json", spec)
    corpus.add("dropped_spec", spec)
    corpus.add("inbox", spec + MARK + b"input")
    corpus.add("state_record", state)
    for line in state.splitlines()[:1] + control.splitlines()[:1]:
        corpus.add("slot", line)
    for data in [cancel, labels, timeout, control]:
        corpus.add("requests", data)
    corpus.add("job_folder", MARK.join([spec, state, control, cancel, labels, timeout, kill]))
    corpus.add("matches", unsealed(read(folder / "matches.jsonl")))
    corpus.add("output_index", index[:1024])
    corpus.add("output_cut", cut)
    control = bytes([0, 20, 0, 3, 9, 1, 7])
    logs = [stdout[:1000], read(folder / "stderr.log")[:1000]]
    corpus.add("log_reader", MARK.join([control, index[:1024], cut, *logs]))


def add_journal(corpus, root):
    """Adds segments as a start finds them, and their events."""
    for path in sorted((root / "journal").glob("0*.jsonl")):
        lines = unsealed(path.read_bytes()).splitlines()
        header = json.loads(lines[0])
        header["boot_id"] = "this"
        header = json.dumps(header).encode()
        for some in [lines[1:6], lines[-3:-1]]:
            events = b"\n".join(some)
            first = {**json.loads(header), "first": json.loads(some[0])["seq"]}
            closed = {"epoch": first["epoch"], "next": first["first"] + len(some)}
            corpus.add("journal", MARK.join([json.dumps(first).encode(), events]))
            elsewhere = json.dumps({**first, "boot_id": "another"}).encode()
            parts = [elsewhere, events, b'{"seq":', json.dumps(closed).encode()]
            corpus.add("journal", MARK.join(parts))
        kinds = {}
        for line in lines[1:]:
            kinds[json.loads(line)["kind"]] = line
        for line in kinds.values():
            corpus.add("journal_event", line)


def field(number, value):
    """One field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (2**64 - 1))
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def pair(key, value):
    return field(1, key) + field(2, value)


def span(seconds, nanos=0):
    return field(1, seconds) + field(2, nanos)


def add_messages(corpus):
    """Adds messages of the wire, by the numbers of the proto's fields."""
    argv = b"".join(field(1, word) for word in ["printf", "%s", "é"])
    spec = argv + field(3, "/tmp") + field(4, pair("A", "b")) + field(5, pair("TOKEN", "hush"))
    spec += field(6, 2) + field(7, "/etc/environment") + field(8, b"input")
    spec += b"".join(field(number, span(number, 5)) for number in [9, 10, 11, 13, 14, 23])
    spec += field(12, 2) + field(16, field(1, 4096) + field(2, 2)) + field(18, pair("team", "red"))
    spec += field(19, "a name") + field(20, -3)
    pattern = field(1, "ready") + field(2, "^re[a-z]+y$") + field(4, 1)
    corpus.add("job_spec", spec + field(22, pattern))
    corpus.add("job_spec", field(2, "echo hello") + field(15, 1) + field(22, pattern))
    corpus.add("job_spec", field(2, "true") + field(17, field(1, 9)) + field(21, field(1, 3)))
    ids = field(1, "01m7yec7vz000awa3bsyef5p1f") + field(2, 3) + field(3, pair("team", "red"))
    corpus.add("list_request", field(1, 50) + field(3, ids + field(4, span(1)) + field(5, span(9))))
    corpus.add("list_request", field(3, field(6, "uid:0")))
    corpus.add("other_requests", field(1, "01m7") + field(7, span(1795244302, 5)) + field(11, span(9)))
    corpus.add("other_requests", field(1, "01m7") + field(2, span(60)))
    corpus.add("other_requests", field(1, "01m7") + field(2, "enough") + field(3, span(5)))


def add_texts(corpus):
    """Adds texts that are small enough to stand here."""
    job = "01m7yec7vz000awa3bsyef5p1f"
    corpus.add("job_id", job)
    corpus.add("job_id", job[:8])
    for text in ["2026-11-21T12:00:00.123456789Z", "1970-01-01T00:00:00Z", "2262-01-01T00:00:00.5Z"]:
        corpus.add("time", text)
    for text in [f"launch {job}", f"bury {job}", f"refused {job} 11", f"gone {job}"]:
        corpus.add("launch_message", text)
    for rest in ["", " output 3 4", " snapshot -", f" snapshot {job}"]:
        corpus.add("resume_token", f"2 s e 41{rest}")
    corpus.add("page_token", f"1 {job} 00000000")
    corpus.add("page_token", f"1 {job} ffffffff")
    for text in [f"Bearer jw_0123456789ab_{'0123456789abcdef' * 4}", "bearer  jw_x_y ", "Basic dXNlcjpwYXNz"]:
        corpus.add("authorization", text)
    corpus.add("env_file", '# note\n\nA=1 2\r\n  B="q"=x\nPATH=/bin\n')
    corpus.add("text", "\7a€é\U0001f600".encode() + b"\xff\xe2\x82 end\xf0\x9f")
    corpus.add("text", b"\0\xed\xa0\x80\xf4\x90\xc0\xaf\xe0\x80")
    corpus.add("dropped_spec", json.dumps({
        "argv": ["cat"], "workingDir": "/", "stdin": "aW5wdXQ=", "secretEnv": {"S": "hush"},
        "idleTimeout": "1.5s", "stopSignal": 2, "ttlAfterEnd": "0s", "envFiles": ["/etc/x"],
        "outputMatches": [{"name": "n", "pattern": "a+", "stream": "LOG_STREAM_STDERR"}],
        "outputLimits": {"maxBytesPerStream": 9, "action": "OUTPUT_LIMIT_ACTION_FAIL"},
    }))
    corpus.add("machine_facts", MARK.join([
        b"MemFree: 1 kB\nMemTotal:   2048 kB\n", b"Max open files   1024   524288   files\n",
        b"Name:\tx\nUid:\t0\t1000\t0\t0\n", b"ada:x:1000:1000::/home/ada:/bin/sh\n",
        b"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", b"0::/user.slice/a.service\n",
    ]))


def add_settings(corpus, program):
    printed = subprocess.run(
        [program, "--root", "/srv/jobs", "serve", "--print-config"], capture_output=True, check=True
    )
    corpus.add("config", printed.stdout)
    corpus.add("config", 'listen = ["127.0.0.1:7420", "unix:/run/j.sock"]\nmax_wait = "1h 30m"\n'
                         'max_stdin_bytes = "2MiB"\nretention = "none"\nmax_streams = 1_000\n'
                         'log_filter = "info,jobwarden=debug"\n')


def add_access(corpus, program, folder):
    """Tokens as the program writes them. The seed of `certificate` was made with openssl."""
    for name, role in [("ci", "submitter"), ("ada@x", "admin")]:
        command = [program, "--root", str(folder), "token", "create", "--name", name, "--role", role]
        subprocess.run(command, capture_output=True, check=True)
    corpus.add("tokens_file", (folder / "access" / "tokens.json").read_bytes())
    corpus.add("tokens_file", '{"format":1,"tokens":[]}')


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    corpus = Corpus()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="jobwarden-seeds-"))
    try:
        root = folder / "root"
        run_jobs(program, root)
        jobs = sorted((root / "jobs").glob("*/*")) + sorted((TOP.parent / "tests/data/v1/jobs").glob("*/*"))
        for job in jobs:
            add_job(corpus, job)
        add_journal(corpus, root)
        for path in sorted((root / "requests").iterdir()):
            corpus.add("request_file", path.read_bytes())
        add_access(corpus, program, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    add_messages(corpus)
    add_texts(corpus)
    add_settings(corpus, program)
    corpus.write()


if __name__ == "__main__":
    main()
