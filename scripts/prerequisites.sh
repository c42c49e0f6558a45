#!/usr/bin/env bash
# Names what is missing on this machine, each with the line that brings it.
#
#   scripts/prerequisites.sh build           what building fother needs
#   scripts/prerequisites.sh node            ... and what a whole Kubernetes on this machine needs
#   scripts/prerequisites.sh test            ... and what the tests need; those on a real node run only as root
#   scripts/prerequisites.sh test --install  installs what it can: on a Debian-like machine, as root
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

purpose=$1
install=${2:-}
pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
go=$(sed -n 's/^go //p' tests/cluster/go.mod)

missing=()  # what: remedy
packages=() # what apt has

# lacking NAME PACKAGES: NAME is missing and apt can bring it.
lacking() {
  missing+=("$(printf '%-18s apt-get install %s' "$1" "$2")")
  # shellcheck disable=SC2206
  packages+=($2)
}
have() { command -v "$1" >/dev/null; }

# node: what the node of a cluster is made of, besides what is built.
node() {
  [ "$(id -u)" = 0 ] || missing+=("$(printf '%-18s sudo make cluster' root)")
  have containerd || lacking containerd containerd
  have runc || lacking runc runc
  [ -x /usr/lib/cni/bridge ] || lacking "network plugins" containernetworking-plugins
  have ip || lacking ip iproute2
  have mount || lacking mount mount
  # Goes into an image.
  have curl || lacking curl curl
}

look() {
  missing=() packages=()
  have git || lacking git git
  have cc || lacking "a C compiler" "gcc libc6-dev"
  if ! have cargo; then
    missing+=("$(printf '%-18s https://rustup.rs, release %s' Rust "$pinned")")
  elif ! $(scripts/cargo.sh) --version >/dev/null 2>&1; then
    missing+=("$(printf '%-18s rustup toolchain install %s' "Rust $pinned" "$pinned")")
  fi
  [ "$purpose" != build ] || return 0
  have setpriv || lacking setpriv util-linux
  have flock || lacking flock util-linux
  [ "$purpose" = test ] && [ "$(id -u)" != 0 ] || node
  [ "$purpose" = test ] || return 0
  # With it the tests see what a cluster would leave of itself on the machine.
  [ "$(id -u)" != 0 ] || have iptables-save || lacking iptables-save iptables
  have ssh-keygen || lacking ssh-keygen openssh-client
  have prometheus-alertmanager || lacking alertmanager prometheus-alertmanager
  have promtool || lacking promtool prometheus
  [ -x /usr/sbin/sshd ] || have sshd || lacking sshd openssh-server
  local component
  for component in fmt clippy; do
    ! have cargo || $(scripts/cargo.sh) $component --version >/dev/null 2>&1 ||
      missing+=("$(printf '%-18s rustup component add rustfmt clippy' "cargo $component")")
  done
  have kubectl || have go || missing+=("$(printf '%-18s https://kubernetes.io/docs/tasks/tools, 1.30 or later, or Go to build it' kubectl)")
  # The tests skip the real control plane where there is no Go, unless CI says that nothing may be skipped.
  [ "${CI:-}" != true ] || have go || missing+=("$(printf '%-18s https://go.dev/dl, %s or later' Go "$go")")
}

# apt_install PACKAGES: the programs only, without the services that some of them would start at once.
apt_install() {
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    trap "rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

look
if [ "$install" = --install ] && [ ${#missing[@]} -gt 0 ]; then
  if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && have apt-get; then
    echo "installing ${packages[*]}"
    apt_install ca-certificates "${packages[@]}" || true
  fi
  if have rustup; then
    $(scripts/cargo.sh) --version >/dev/null 2>&1 ||
      rustup toolchain install "$pinned" --no-self-update --profile minimal --component rustfmt --component clippy || true
    { $(scripts/cargo.sh) fmt --version && $(scripts/cargo.sh) clippy --version; } >/dev/null 2>&1 ||
      rustup component add rustfmt clippy || true
  fi
  # Whatever went wrong has said so; here follows what is missing because of it.
  look
fi

[ ${#missing[@]} -eq 0 ] && exit
{
  echo "Missing here, and how to get it:"
  printf '  %s\n' "${missing[@]}"
} >&2
exit 2
