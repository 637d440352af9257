#!/usr/bin/env bash
# Drives the real program from a generated Python client, from grpcurl and from a generated Java
# client, which is skipped aloud where the machine has no Java.
#
# usage: tests/interop/run.sh
#
# Takes JOBWARDEN_BIN (default: a debug build of this tree), JOBWARDEN_VENV (default: a Python
# environment made for this run) and JOBWARDEN_JAVA (default: Java libraries fetched for this run).
# Leaves behind what it fetched into folders that it was given, a build in target/, the caches of
# cargo and pip and, as root, newer lists of apt-get if packages could not be fetched with those it had.
# All else is in a temporary folder, which it removes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Taken once the client has ended: it needs the folder to end what it started.
trap 'exit 143' TERM

venv=${JOBWARDEN_VENV:-$folder/venv}
.ci/venv "$venv"
if [[ -z ${JOBWARDEN_BIN:-} ]]; then
  cargo build --locked
  JOBWARDEN_BIN=${CARGO_TARGET_DIR:-target}/debug/jobwarden
fi

mkdir "$folder/stubs"
"$venv/bin/python" -m grpc_tools.protoc --proto_path=proto \
  --python_out="$folder/stubs" --grpc_python_out="$folder/stubs" proto/jobwarden/v1/*.proto

export PYTHONPATH=$folder/stubs PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" -u tests/interop/interop.py "$(realpath "$JOBWARDEN_BIN")" "$folder"
"$venv/bin/python" -u tests/interop/grpcurl.py "$(realpath "$JOBWARDEN_BIN")" "$folder" "$venv/bin"
"$venv/bin/python" -u tests/interop/security.py "$(realpath "$JOBWARDEN_BIN")" "$folder" "$venv/bin"

libraries=${JOBWARDEN_JAVA:-$folder/java-libraries}
skipped=77
code=0
.ci/java "$libraries" || code=$?
if ((code == 0)); then
  "$venv/bin/python" -u tests/interop/java.py "$(realpath "$JOBWARDEN_BIN")" "$folder" "$libraries"
elif ((code != skipped)); then
  exit "$code"
fi
