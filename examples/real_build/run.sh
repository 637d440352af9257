#!/usr/bin/env bash
# Real work through the service: a C project is unpacked, built and tested as one job, with tens of
# thousands of lines of output, while the service is killed and restarted.
#
# usage: examples/real_build/run.sh
#
# Takes JOBWARDEN_BIN (default: a debug build of this tree) and JOBWARDEN_VENV (default: a Python
# environment made for this run). Needs a C compiler and the headers of Python. Everything it makes
# is in one temporary folder. Takes about three minutes.
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

# The sources as their authors released them; nothing of them is kept in this tree.
"$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps \
  --no-build-isolation --no-binary :all: --dest "$folder" pycryptodome==3.23.0

export PYTHONPATH=$folder/stubs:tests/interop PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" -u examples/real_build/client.py \
  "$(realpath "$JOBWARDEN_BIN")" "$folder" -- \
  bash "$PWD/examples/real_build/build.sh" \
  "$venv/bin/python" "$folder/pycryptodome-3.23.0.tar.gz" "$folder/tree"
