#!/usr/bin/env bash
# Everything that must hold before a change lands, one heading a step, the time it took below it. Two steps that wait
# for different things go on side by side; what the second one says is shown when it is joined.
#
#   scripts/test.sh          all of it
#   scripts/test.sh --fast   format, lints and the tests that need nothing but this process
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fast=
[ "${1:-}" != --fast ] || fast=yes
scratch=$(mktemp -d)
log=$scratch/log
: >"$log"
started=$SECONDS
complete=
current=
asides=() # names of the steps that go on beside the others
groups=() # and their process groups

# Most tests wait, for a controller, a container or a clock: two a processor leave it idle for more than half of the time.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((3 * $(nproc)))}
# Every clone has a path of its own, and so has what it compiles in steps: nobody would find it again.
[ "${CI:-}" != true ] || export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
# Whose log is cut to its end has to find there what failed, and not the frames of the runtime below it.
[ "${CI:-}" != true ] || export RUST_BACKTRACE=0

if [ -t 1 ]; then
  bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
  export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}
else
  bold='' plain=''
fi

# begin NAME, end SECONDS: the lines around what a step says.
begin() {
  current=$1
  printf '\n%s== %s%s\n' "$bold" "$current" "$plain"
}
end() {
  printf -- '-- %s: ok, %d s\n' "$current" "$1"
  current=
}

# step NAME COMMAND...: runs it under a heading; the first failure ends the run.
step() {
  begin "$1"
  shift
  local begun=$SECONDS
  "$@" 2>&1 | tee -a "$log"
  end $((SECONDS - begun))
}

# aside NAME COMMAND...: starts a step that goes on beside those that follow, until it is joined.
aside() {
  local at=${#asides[@]}
  local output=$scratch/$at
  asides[at]=$1
  shift
  # In a process group of its own, so that all of it ends with a run that fails.
  set -m
  (
    begun=$SECONDS
    trap 'echo $((SECONDS - begun)) >"$output.took"' EXIT
    "$@"
  ) </dev/null >"$output" 2>&1 &
  groups[at]=$!
  set +m
}

# join: waits for the steps beside, shows what they said, and fails with the first that failed.
join() {
  local at status
  for at in "${!groups[@]}"; do
    status=0
    wait "${groups[at]}" || status=$?
    unset "groups[at]"
    begin "${asides[at]}"
    tee -a "$log" <"$scratch/$at"
    [ $status -eq 0 ] || return $status
    end "$(cat "$scratch/$at.took")"
  done
}

finish() {
  local status=$? group
  local passed failed
  for group in "${groups[@]}"; do
    kill -- "-$group" 2>/dev/null || true
  done
  passed=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
  failed=$(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
  rm -rf "$scratch"
  # A run that somebody ends has no status of its own.
  if [ $status -eq 0 ] && [ -n "$complete" ]; then
    echo
    echo "test result: ok. $passed passed; $failed failed; finished in $((SECONDS - started)) s"
  else
    echo
    echo "test result: FAILED in step \"${current:-prerequisites}\". $passed passed; $failed failed; after $((SECONDS - started)) s"
  fi
}
trap finish EXIT

step prerequisites scripts/prerequisites.sh test --install
read -ra cargo <<<"$(scripts/cargo.sh)"

run_cargo() { "${cargo[@]}" "$@"; }

# What only reads the code has a target directory of its own: cargo lets one command at a time into each.
beside="${CARGO_TARGET_DIR:-target}/lints"
lints() { CARGO_TARGET_DIR=$beside run_cargo clippy --locked --all-targets --quiet -- -D warnings; }
documentation() {
  export CARGO_TARGET_DIR=$beside RUSTDOCFLAGS="-D warnings"
  run_cargo doc --locked --no-deps --document-private-items --quiet
}

# As root only: without, one of its tests says so, or fails where nothing may be skipped.
real_node() {
  if [ "$(id -u)" = 0 ]; then
    tests/cluster/build.sh kube-scheduler kubelet >/dev/null || [ "${CI:-}" != true ]
  fi
  # All at once: they wait for containers, and the longest is not to be the last to begin.
  integration $((3 * RUST_TEST_THREADS)) real_node::
}

# integration THREADS FILTER...: the integration tests that a filter leaves. What of them is written in Go collects its garbage
# seldom, which saves a fifth of its time, as no process of it lives long; and has one processor each, which saves a tenth, as
# there are more of them than processors.
integration() {
  local threads=$1
  shift
  RUST_TEST_THREADS=$threads GOGC=400 GOMAXPROCS=1 run_cargo test --locked --test it -- "$@"
}

# Without it the test that needs it says so, or fails where nothing may be skipped.
earlier_program() { scripts/earlier.sh || [ "${CI:-}" != true ]; }

step format run_cargo fmt --check
aside lints lints
[ -n "$fast" ] || aside documentation documentation
# The library, the program, the tests and the example cluster, each once.
step "build of the tests" run_cargo test --locked --no-run
step "unit tests" run_cargo test --locked --lib
# Not left to the first test that wants it, which would wait for minutes. Without Go that of PATH will do.
built_kubectl() { tests/cluster/build.sh kubectl || { [ $? = 3 ] && command -v kubectl; }; }
step kubectl built_kubectl
# These leave the processors idle even then, and so do those on a real control plane, which want more memory.
step "integration tests in this process" integration $((RUST_TEST_THREADS * 3)) --skip real:: --skip real_node::
join
if [ -z "$fast" ]; then
  step dependencies scripts/deny.sh --log-level error check bans licenses sources
  step "the parts of a real control plane" tests/cluster/build.sh etcd kube-apiserver kube-controller-manager kubectl kubectl-1.30 helm
  step "the program of an earlier commit" earlier_program
  step "integration tests on a real control plane" integration $((RUST_TEST_THREADS * 2)) real::
  # After it and not beside it: together they want more than two cores have.
  step "integration tests on a real node" real_node
fi
complete=yes
