#!/usr/bin/env bash
# Checks our dependencies against deny.toml with cargo-deny, which is built once, outside the clone.
#
#   scripts/deny.sh --log-level error check bans licenses sources
#   scripts/deny.sh check advisories bans
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.20.2
tools=${FOTHER_CACHE:-$HOME/.cache/fother}/cargo-deny-$version
read -ra cargo <<<"$(scripts/cargo.sh)"

if [ ! -x "$tools/bin/cargo-deny" ]; then
  echo "building cargo-deny $version (minutes the first time; kept in $tools)" >&2
  # Unoptimized: a fifth of the time to build, and it runs for a moment only.
  target=$(mktemp -d)
  trap 'rm -rf "$target"' EXIT
  CARGO_TARGET_DIR=$target "${cargo[@]}" install --quiet --locked --debug --root "$tools" --version "$version" cargo-deny
fi
PATH=$tools/bin:$PATH "${cargo[@]}" deny --locked "$@"
