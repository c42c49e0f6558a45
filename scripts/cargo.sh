#!/usr/bin/env bash
# Prints the command that runs the pinned cargo: `cargo`, or `cargo +NAME` where rustup has the pinned release
# under another name only (as a machine that may not download toolchains often does).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pinned=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
if command -v rustup >/dev/null; then
  installed=$(rustup toolchain list --quiet)
  if ! grep -q "^$pinned" <<<"$installed"; then
    for name in $installed; do
      # Where there is none, the list is a sentence.
      if [[ $(rustup run "$name" rustc --version 2>/dev/null) == "rustc $pinned "* ]]; then
        echo "cargo +$name"
        exit
      fi
    done
  fi
fi
echo cargo
