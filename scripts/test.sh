#!/usr/bin/env bash
# Everything that must hold before a change lands, one heading a step, the time it took below it.
#
#   scripts/test.sh          all of it
#   scripts/test.sh --fast   format, lints and the tests that need nothing but this process
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fast=
[ "${1:-}" != --fast ] || fast=yes
log=$(mktemp)
started=$SECONDS
current=

if [ -t 1 ]; then
  bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true)
  export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}
else
  bold='' plain=''
fi

# step NAME COMMAND...: runs it under a heading; the first failure ends the run.
step() {
  current=$1
  shift
  local begun=$SECONDS
  printf '\n%s== %s%s\n' "$bold" "$current" "$plain"
  "$@" 2>&1 | tee -a "$log"
  printf -- '-- %s: ok, %d s\n' "$current" $((SECONDS - begun))
  current=
}

finish() {
  local status=$?
  local passed failed
  passed=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
  failed=$(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
  rm -f "$log"
  if [ $status -eq 0 ]; then
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

documentation() {
  RUSTDOCFLAGS="-D warnings" run_cargo doc --locked --no-deps --document-private-items --quiet
}

# As root only: without, one of its tests says so, or fails where nothing may be skipped.
real_node() {
  if [ "$(id -u)" = 0 ]; then
    tests/cluster/build.sh kube-scheduler kubelet >/dev/null || [ "${CI:-}" != true ]
    run_cargo build --locked --example cluster
  fi
  run_cargo test --locked --test it -- real_node::
}

step format run_cargo fmt --check
step lints run_cargo clippy --locked --all-targets --quiet -- -D warnings
step "unit tests" run_cargo test --locked --lib
step "integration tests in this process" run_cargo test --locked --test it -- --skip real:: --skip real_node::
if [ -z "$fast" ]; then
  step documentation documentation
  step dependencies scripts/deny.sh --log-level error check bans licenses sources
  step "the parts of a real control plane" tests/cluster/build.sh etcd kube-apiserver kube-controller-manager kubectl helm
  step "integration tests on a real control plane" run_cargo test --locked --test it -- real::
  step "integration tests on a real node" real_node
fi
