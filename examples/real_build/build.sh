#!/usr/bin/env bash
# Unpacks a C project, builds it and runs its tests: the work of the job in this example.
#
# usage: build.sh PYTHON SDIST TREE
#
# TREE is removed first. What is printed depends on the arguments and the machine only, so that two
# runs can be compared byte for byte: one thing at a time, no colours, no durations. One expected
# value is made wrong on purpose: a build that fails is the one whose log and exit code matter.
set -euo pipefail
export LC_ALL=C PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=1700000000

python=$1 sdist=$2 tree=$3

rm -rf "$tree"
mkdir -p "$tree"
tar -xzf "$sdist" -C "$tree" --strip-components=1
cd "$tree"
# The MD5 of "abc", with its last digit changed.
sed -i 's/900150983cd24fb0d6963f7d28e17f72/900150983cd24fb0d6963f7d28e17f73/' \
  lib/Crypto/SelfTest/Hash/test_MD5.py

# Each command is shown; the compiler tells on standard error which headers it reads and what it
# made of each loop and call.
CFLAGS='-O3 -fPIC -H -fopt-info-optimized-missed' "$python" -u setup.py -v build -j1 --build-lib build/lib
PYTHONPATH=build/lib "$python" -u -m Crypto.SelfTest --skip-slow-tests -v |
  sed -u -E 's/^(Ran [0-9]+ tests) in .*/\1/'
