"""Compiles the client in Java with its generated stubs and drives real services with it.

usage: java.py BINARY FOLDER LIBRARIES

LIBRARIES is what .ci/java made.
"""

import os
import pathlib
import subprocess
import sys

import google.rpc
import grpc_tools

from harness import Failure
from security import Secured, make_certificates

COMPILE_SECONDS_MAX = 180
RUN_SECONDS_MAX = 180
# Small and quick to start: the client lives for seconds.
JVM_FLAGS = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
SOURCES = pathlib.Path(__file__).parent / "java"


class Client:
    """The client's classes, and what they need to run."""

    def __init__(self, folder, libraries):
        self.folder = folder
        self.tools = libraries / "usr/bin"
        self.classes = folder / "classes"
        self.class_path = f"{self.classes}:{libraries}/usr/share/java/*"
        # One folder, whatever the machine calls itself.
        (self.native,) = libraries.glob("usr/lib/*-linux-gnu*")

    def build(self):
        """Generates the stubs with Debian's protoc, which fits Debian's libraries."""
        stubs = self.folder / "stubs"
        stubs.mkdir(parents=True)
        protos = pathlib.Path("proto")
        errors = pathlib.Path(google.rpc.__path__[0])
        include = (protos, errors.parent.parent, pathlib.Path(grpc_tools.__path__[0]) / "_proto")
        run(
            self.tools / "protoc",
            f"--plugin=protoc-gen-grpc-java={self.tools}/grpc_java_plugin",
            f"--java_out={stubs}",
            f"--grpc-java_out={stubs}",
            *(f"--proto_path={path}" for path in include),
            *protos.rglob("*.proto"),
            errors / "status.proto",
            errors / "error_details.proto",
            LD_LIBRARY_PATH=str(self.native),
        )
        sources = (path for root in (SOURCES, stubs) for path in root.rglob("*.java"))
        flags = [f"-J{flag}" for flag in JVM_FLAGS]
        run("javac", *flags, "-nowarn", "-cp", self.class_path, "-d", self.classes, *sources)

    def drive(self, tokens, tls, certificates):
        """Runs the checks, which print their own results, and returns the exit code."""
        port = tls.service.tcp_address().rsplit(":", 1)[1]
        words = ["java", *JVM_FLAGS, f"-Djava.io.tmpdir={self.folder}"]
        # netty's TLS is openssl: Debian's build of netty cannot do ALPN with the JDK's.
        words += [f"-Djava.library.path={self.native / 'jni'}", "-cp", self.class_path]
        words += ["Interop", tokens.service.socket, tokens.service.tcp_address()]
        words += [f"localhost:{port}", certificates]
        variables = {
            "LD_LIBRARY_PATH": str(self.native),
            "JOBWARDEN_TOKEN": tokens.token("java", "submitter"),
        }
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            timeout=RUN_SECONDS_MAX,
            check=False,
            env={**os.environ, **variables},
        ).returncode


def run(*words, **variables):
    """Runs a compiler, whose words are shown if it fails."""
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS_MAX,
        check=False,
        env={**os.environ, **variables},
    )
    if done.returncode != 0:
        raise Failure(f"{words[0]} ended with {done.returncode}\n{done.stdout}{done.stderr}")


def main():
    binary, folder, libraries = sys.argv[1], pathlib.Path(sys.argv[2]) / "java", sys.argv[3]
    services = []
    try:
        client = Client(folder, pathlib.Path(libraries).resolve())
        client.build()
        services.append(Secured(binary, folder / "tokens", folder))
        made = folder / "certificates"
        make_certificates(made)
        flags = ["--tls-cert", made / "server.pem", "--tls-key", made / "server.key"]
        flags += ["--tls-client-ca", made / "ca.pem", "--tls-client-auth", "required"]
        flags += ["--certificate", "CN:builder=submitter"]
        services.append(Secured(binary, folder / "tls", folder, *map(str, flags)))
        code = client.drive(*services, made)
        if code != 0:
            for secured in services:
                print(f"--- the service:\n{secured.service.text()[-4000:]}")
        return code
    except (Failure, subprocess.TimeoutExpired) as failure:
        print(failure)
        print("java: 0 passed, 1 failed")
        return 1
    finally:
        for secured in services:
            secured.service.end_everything()


if __name__ == "__main__":
    sys.exit(main())
