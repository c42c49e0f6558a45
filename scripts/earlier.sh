#!/usr/bin/env bash
# Builds the program of the earlier commit that tests/upgrade/from names, once per machine, and prints its path; beside it is
# the chart of that commit, in charts/fother. Tests have it replaced by the program of this clone, and back.
#
#   scripts/earlier.sh           builds it if need be
#   scripts/earlier.sh --built   exit code 3 where it is not built
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

commit=$(sed '/^#/d' tests/upgrade/from)
directory=${FOTHER_CACHE:-$HOME/.cache/fother}/earlier-$commit-$(uname -m)
program=$directory/fother

is_complete() { [ -x "$program" ] && [ -d "$directory/charts" ]; }

# A shallow clone does not have it.
fetch() {
  if ! git cat-file -e "$commit^{commit}" 2>/dev/null && ! git fetch --quiet --depth=1 origin "$commit" >&2; then
    echo "earlier.sh: neither this clone nor its origin has the commit $commit that tests/upgrade/from names" >&2
    return 1
  fi
}

unpack_chart() {
  local unfinished=$directory/.charts.$$
  mkdir "$unfinished"
  git archive "$commit" charts | tar -x -C "$unfinished"
  mv "$unfinished/charts" "$directory/charts"
  rmdir "$unfinished"
}

build() {
  local target source
  echo "building the program of ${commit:0:12} (minutes the first time; kept in $directory)" >&2
  target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
  source=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$source'" EXIT
  git archive "$commit" | tar -x -C "$source"
  # What it depends on is shared with this clone's target directory: an example asks for the same features as the tests
  # do, and under other names neither takes the place of what this clone builds.
  sed -i 's/^default-run = "fother"$/default-run = "fother-earlier"/
    /^\[\[bin\]\]$/,/^$/ s/^name = "fother"$/name = "fother-earlier"/' "$source/Cargo.toml"
  printf '//! Nothing.\nfn main() {}\n' >"$source/examples/earlier.rs"
  read -ra cargo <<<"$(scripts/cargo.sh)"
  (
    cd "$source"
    CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 \
      "${cargo[@]}" build --locked --quiet --bin fother-earlier --example earlier >&2
  )
  cp "$target/debug/fother-earlier" "$directory/.fother.$$"
  mv "$directory/.fother.$$" "$program"
  # Each is as large as all the rest of the program's, and not needed again.
  rm -f "$target"/debug/fother-earlier* "$target"/debug/deps/fother_earlier-*
}

if ! is_complete; then
  [ "${1:-}" != --built ] || exit 3
  mkdir -p "$directory"
  (
    flock 9
    is_complete || fetch
    [ -x "$program" ] || build
    [ -d "$directory/charts" ] || unpack_chart
  ) 9>"$directory/.lock"
fi
echo "$program"
