#!/usr/bin/env bash
# A storm of deaths for as long as you like: jobs of all kinds while the service, its launchers and
# supervisors are killed at random (tests/integration/storm.rs), seed after seed. Prints what each
# storm was and stops at the first fault, whose seed repeats it.
#
# usage: examples/soak/run.sh [MINUTES [JOBS]]
#
# MINUTES  how long, 60 if not given
# JOBS     jobs of each storm, 300 if not given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

minutes=${1:-60}
jobs=${2:-300}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --locked --test integration --no-run
end=$((SECONDS + minutes * 60))
storms=0
while ((SECONDS < end)); do
  seed=$((RANDOM * 32768 + RANDOM))
  if ! JOBWARDEN_STORM_SEED=$seed JOBWARDEN_STORM_JOBS=$jobs \
    cargo test --quiet --locked --test integration storm:: -- --nocapture >"$log" 2>&1; then
    cat "$log"
    printf 'FAILED with seed %d after %d storms\n' "$seed" "$storms"
    exit 1
  fi
  storms=$((storms + 1))
  printf '%5d s  ' "$SECONDS"
  grep '^seed .*jobs' "$log"
done
printf '%d storms of %d jobs in %d minutes: everything was right\n' "$storms" "$jobs" "$minutes"
