"""Comes in by every way as a stranger would: with a token, with a certificate, by the socket.

usage: security.py BINARY FOLDER TOOLS

Starts services of its own. Makes its certificates with openssl, as docs/SECURITY.md says.
"""

import contextlib
import pathlib
import subprocess
import sys

import grpc

from harness import Api, Failure, Service, begin_of, expect, refused
from interop import fail, run_all

Code = grpc.StatusCode

# Without it the section of openssl's own configuration would make every certificate an authority.
OPENSSL_CONFIGURATION = "[req]\ndistinguished_name = name\n[name]\n"


class Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
):
    """Sends a token with every call, as a program does that has no call credentials at hand."""

    def __init__(self, token):
        self.header = ("authorization", f"Bearer {token}")

    def signed(self, details):
        return details._replace(metadata=[*(details.metadata or []), self.header])

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(self.signed(details), request)

    def intercept_unary_stream(self, continuation, details, request):
        return continuation(self.signed(details), request)


class Secured:
    """A service with its tokens, and ways to reach it."""

    def __init__(self, binary, root, tools, *flags):
        self.service = Service(binary, root, *flags, needs_token=True).start()
        self.binary = str(binary)
        self.tools = pathlib.Path(tools)

    def token(self, name, role):
        """Makes a token and returns it; nothing else is printed on standard output."""
        done = self.command("token", "create", "--name", name, "--role", role)
        token = done.stdout.removesuffix("\n")
        expect(token.startswith("jw_") and token.isprintable(), "no token alone", done.stderr)
        expect(" " not in token and len(token) < 200, "not one word", done.stderr)
        return token

    def command(self, *words, **variables):
        """Runs a command of the program against the root."""
        return subprocess.run(
            [self.binary, *words, "--root", str(self.service.root)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.service.root.parent), **variables},
        )

    @contextlib.contextmanager
    def tcp(self, token=None):
        """The loopback port, without encryption."""
        with grpc.insecure_channel(self.service.tcp_address()) as channel:
            bearer = [Bearer(token)] if token else []
            yield Api("tcp", grpc.intercept_channel(channel, *bearer), self.service)

    @contextlib.contextmanager
    def tls(self, folder, identity=None, token=None, host="localhost"):
        """The same port with encryption."""
        port = self.service.tcp_address().rsplit(":", 1)[1]
        shown = {}
        if identity:
            shown = {
                "private_key": (folder / f"{identity}.key").read_bytes(),
                "certificate_chain": (folder / f"{identity}.pem").read_bytes(),
            }
        authority = (folder / "ca.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(root_certificates=authority, **shown)
        if token:
            call = grpc.access_token_call_credentials(token)
            credentials = grpc.composite_channel_credentials(credentials, call)
        with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
            yield Api("tls", channel, self.service)


def works(api):
    """Runs a job, reads its output and watches: unary calls and both streams."""
    job = api.run("echo", "out")
    expect(api.output(job)[0] == b"out\n", "another output", job)
    watch = api.WatchEvents()
    expect(begin_of(watch), "the watch has no beginning")
    watch.cancel()


def each_call_is_denied(api):
    """Whoever is not known gets nothing: not one call, not one stream."""
    unknown = "0" * 26
    for call in (
        lambda: api.Exec(spec={"argv": ["true"]}),
        lambda: api.Status(job_id=unknown),
        lambda: api.List(),
        lambda: api.Cancel(job_id=unknown),
        lambda: api.GetServerInfo(),
        lambda: next(api.TailLog(job_id=unknown)),
        lambda: next(api.WatchEvents()),
    ):
        with refused(Code.UNAUTHENTICATED, "UNAUTHENTICATED"):
            call()


def token_opens_loopback(secured):
    """a token opens every call and both streams over loopback TCP."""
    with secured.tcp(secured.token("right", "submitter")) as api:
        works(api)


def local_credentials_carry_a_token(secured):
    """grpc's own credentials for loopback carry a token without an interceptor."""
    local = grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP)
    call = grpc.access_token_call_credentials(secured.token("local", "submitter"))
    credentials = grpc.composite_channel_credentials(local, call)
    with grpc.secure_channel(secured.service.tcp_address(), credentials) as channel:
        works(Api("tcp", channel, secured.service))


def no_token_is_denied(secured):
    """loopback TCP without a token, or with a wrong one, is UNAUTHENTICATED in every call."""
    right = secured.token("other", "admin")
    last = "0" if right[-1] != "0" else "1"
    for token in (None, "wrong", "jw_0_0", right[:-1] + last, right + "0", right.upper()):
        with secured.tcp(token) as api:
            each_call_is_denied(api)


def reader_may_not_submit(secured):
    """a reader may look and may not submit."""
    with secured.tcp(secured.token("reader", "reader")) as api:
        api.List()
        with refused(Code.PERMISSION_DENIED, "ROLE_REQUIRED"):
            api.Exec(spec={"argv": ["true"]})


def socket_needs_an_authority(secured):
    """the unix socket takes this user by its uid, but only with grpc.default_authority set."""
    socket = f"unix:{secured.service.socket}"
    with grpc.insecure_channel(socket) as channel:
        try:
            Api("unix", channel, secured.service).List()
        except grpc.RpcError as error:
            expect(error.code() == Code.INTERNAL, "another code", error)
            expect("RST_STREAM with error code 1" in error.details(), "another error", error)
        else:
            raise Failure("the path was taken as authority")
    local = [("grpc.default_authority", "localhost")]
    with grpc.insecure_channel(socket, options=local) as channel:
        works(Api("unix", channel, secured.service))


def revoked_token_ends_calls_and_streams(secured):
    """a token that is revoked ends an open stream and opens nothing more; another goes on."""
    first, second = (secured.token("turning", "submitter") for _ in range(2))
    with secured.tcp(first) as old, secured.tcp(second) as new:
        watch = old.WatchEvents()
        expect(begin_of(watch), "the watch has no beginning")
        done = secured.command("token", "revoke", first.split("_")[1])
        expect(done.returncode == 0 and "turning" in done.stdout, "not revoked", done.stderr)
        with refused(Code.UNAUTHENTICATED, "UNAUTHENTICATED"):
            list(watch)
        each_call_is_denied(old)
        works(new)
    left = secured.command("token", "list").stdout
    secrets = [token.rsplit("_", 1)[1] for token in (first, second)]
    expect(not any(secret in left for secret in secrets), "a secret is listed")
    files = [path for path in secured.service.root.rglob("*") if path.is_file()]
    for secret in secrets:
        found = [path for path in files if secret.encode() in path.read_bytes()]
        expect(not found, "a secret is in a file", found)


def grpcurl_takes_a_token(secured):
    """grpcurl takes a token from the environment, so that no argument holds it."""
    token = secured.token("grpcurl", "submitter")
    words = [str(secured.tools / "grpcurl"), "-plaintext", "-max-time", "60"]
    words += ["-expand-headers", "-H", "authorization: Bearer ${JOBWARDEN_TOKEN}"]
    words += [secured.service.tcp_address(), "jobwarden.v1.JobService/List"]
    for shown, word in ((token, "{"), ("jw_0_0", "Unauthenticated")):
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env={"PATH": "/usr/bin:/bin", "JOBWARDEN_TOKEN": shown},
        )
        expect(word in done.stdout + done.stderr, f"expected {word}", done)
        expect((done.returncode == 0) == (shown == token), "another exit code", done)


def command_line_takes_a_token(secured):
    """the command line takes a token from a file and from the environment, and says what lacks."""
    file = secured.service.root.parent / "token"
    token = secured.token("cli", "submitter")
    file.touch(mode=0o600)
    file.write_text(f"{token}\n")
    address = secured.service.tcp_address()
    reach = ("list", "--endpoint", address)
    for done in (
        secured.command(*reach, "--token-file", str(file)),
        secured.command(*reach, JOBWARDEN_TOKEN=token),
        secured.command(*reach, JOBWARDEN_TOKEN_FILE=str(file)),
    ):
        expect(done.returncode == 0, "not let in", done.stderr)
    for words in (reach, ("watch", *reach[1:]), ("logs", "-f", "0" * 26, *reach[1:])):
        for variables in ({}, {"JOBWARDEN_TOKEN": "jw_0_0"}):
            done = secured.command(*words, **variables)
            expect(done.returncode == 77, "another exit code", words, done.stderr)
            expect("token create" in done.stderr, "no word on what to do", done.stderr)
            expect("jw_0_0" not in done.stderr, "the token is shown", done.stderr)


def certificate_opens_tls(pair):
    """a certificate of our authority opens every call over TLS, for its role."""
    secured, folder = pair
    with secured.tls(folder, "builder") as api:
        works(api)
        expect(api.run("true").owner, "the job has no owner")
    with secured.tls(folder, "looker", host="127.0.0.1") as api:
        api.List()
        with refused(Code.PERMISSION_DENIED, "ROLE_REQUIRED"):
            api.Exec(spec={"argv": ["true"]})


def certificate_without_role_is_denied(pair):
    """a certificate that the settings do not name is UNAUTHENTICATED."""
    secured, folder = pair
    with secured.tls(folder, "nobody") as api:
        each_call_is_denied(api)


def foreign_certificate_is_cut_off(pair):
    """no certificate, or one of another authority, does not even connect."""
    secured, folder = pair
    for identity in (None, "foreign"):
        with secured.tls(folder, identity) as api:
            try:
                api.List()
            except grpc.RpcError as error:
                expect(error.code() == Code.UNAVAILABLE, "another code", error)
            else:
                raise Failure("a stranger was let in")


def command_line_shows_its_certificate(pair):
    """the command line shows its certificate, knows the service, and says what is wrong."""
    secured, folder = pair
    port = secured.service.tcp_address().rsplit(":", 1)[1]
    reach = ("list", "--endpoint", f"https://localhost:{port}")
    authority = ("--ca-file", str(folder / "ca.pem"))
    shown = tuple(
        word
        for flag, end in (("--client-cert", "pem"), ("--client-key", "key"))
        for word in (flag, str(folder / f"looker.{end}"))
    )
    done = secured.command(*reach, *authority, *shown)
    expect(done.returncode == 0, "not let in", done.stderr)
    done = secured.command(*reach, *shown)
    expect(done.returncode == 69 and "--ca-file" in done.stderr, "believed", done.stderr)
    done = secured.command(*reach, *authority)
    expect(done.returncode == 77 and "--client-cert" in done.stderr, "let in", done.stderr)
    done = secured.command(*reach, *authority, *shown, "--tls-server-name", "far.example")
    expect(done.returncode == 69, "believed", done.stderr)
    expect("--tls-server-name" in done.stderr, "no word on what to do", done.stderr)


def make_certificates(folder):
    """Two authorities, a service, three clients of the first authority and one of the other."""
    folder.mkdir()
    (folder / "openssl.cnf").write_text(OPENSSL_CONFIGURATION)
    for authority, name in (("ca", "jobwarden interop"), ("foreign-ca", "somebody else")):
        certificate(folder, authority, name, "basicConstraints=critical,CA:TRUE")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    certificate(folder, "server", "localhost", names, by="ca")
    for client in ("builder", "looker", "nobody"):
        certificate(folder, client, client, "extendedKeyUsage=clientAuth", by="ca")
    certificate(folder, "foreign", "builder", "extendedKeyUsage=clientAuth", by="foreign-ca")


def certificate(folder, file, name, extension, by=None):
    """Makes a key and a certificate for it, by itself or by an authority."""
    words = ["openssl", "req", "-x509", "-config", "openssl.cnf", "-newkey", "ec"]
    words += ["-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
    words += ["-subj", f"/CN={name}", "-addext", extension]
    words += ["-keyout", f"{file}.key", "-out", f"{file}.pem"]
    if by:
        words += ["-CA", f"{by}.pem", "-CAkey", f"{by}.key"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, "openssl refused", done.stderr)


TOKEN_CHECKS = [
    token_opens_loopback,
    local_credentials_carry_a_token,
    no_token_is_denied,
    reader_may_not_submit,
    socket_needs_an_authority,
    revoked_token_ends_calls_and_streams,
    grpcurl_takes_a_token,
    command_line_takes_a_token,
]

TLS_CHECKS = [
    certificate_opens_tls,
    certificate_without_role_is_denied,
    foreign_certificate_is_cut_off,
    command_line_shows_its_certificate,
]


def main():
    binary, folder, tools = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    services = []
    passed = 0
    try:
        services.append(Secured(binary, folder / "tokens", tools))
        passed += run_all(TOKEN_CHECKS, services[0], "tcp")
        made = folder / "certificates"
        make_certificates(made)
        flags = ["--tls-cert", made / "server.pem", "--tls-key", made / "server.key"]
        flags += ["--tls-client-ca", made / "ca.pem", "--tls-client-auth", "required"]
        flags += ["--certificate", "CN:builder=submitter", "--certificate", "CN:looker=reader"]
        services.append(Secured(binary, folder / "tls", tools, *map(str, flags)))
        passed += run_all(TLS_CHECKS, (services[1], made), "tls")
    except (Failure, subprocess.TimeoutExpired, grpc.RpcError) as failure:
        print(failure)
        return fail(passed, services[-1].service, "security") if services else 1
    finally:
        for secured in services:
            secured.service.end_everything()
    print(f"security: {passed} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
