#!/usr/bin/env bash
# Builds another release of kubectl from its Go module and prints the path of the program, which is kept outside the clone:
#
#   FOTHER_TEST_KUBECTL=$(tests/cluster/kubectl.sh 1.30.14) cargo test --test it kubectl
set -euo pipefail

version=${1#v}
directory=${FOTHER_CACHE:-$HOME/.cache/fother}/kubectl-$version
program=$directory/kubectl
mkdir -p "$directory"
exec 9>"$directory/.lock"
flock 9
if [ ! -x "$program" ]; then
  echo "building kubectl $version (minutes; kept in $directory)" >&2
  module=$(mktemp -d)
  trap 'rm -rf "$module"' EXIT
  cd "$module"
  export GOFLAGS=-mod=mod CGO_ENABLED=0
  {
    go mod init kubectl
    go mod edit -require "k8s.io/kubernetes@v$version"
    # A release names its parts by folders of its repository; as modules they have the same version below 1.
    upstream=$(go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
    for part in $(sed -n 's|^\t*\(replace \)\{0,1\}\(k8s.io/[a-z-]*\) => ./staging/.*|\2|p' "$upstream"); do
      go mod edit -replace "$part=$part@v0.${version#*.}"
    done
    minor=${version#1.}
    link="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      link+=" -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
    done
    go build -trimpath -ldflags "$link" -o "$program.new" k8s.io/kubernetes/cmd/kubectl
  } >&2
  mv "$program.new" "$program"
fi
echo "$program"
