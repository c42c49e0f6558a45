#!/usr/bin/env bash
# Builds parts of a real cluster from the Go module beside this file and prints the directory that holds them.
#
#   tests/cluster/build.sh etcd kube-apiserver kube-controller-manager kubectl
#
# The directory is outside the clone and named by what goes into the build, so that a part is built once per
# machine; concurrent calls wait for each other. kubectl is built only where PATH has none that is new enough.
# Exit code 3: a part is missing and there is no Go to build it with.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
oldest_kubectl_minor=30

kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/go.mod")
minor=${kubernetes#v1.}
minor=${minor%%.*}

package_of() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kubectl) echo "k8s.io/kubernetes/cmd/$1" ;;
    *) echo "build.sh: no such part: $1" >&2 && return 2 ;;
  esac
}

link="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  link+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor"
done

path_has_kubectl() {
  local found
  found=$(kubectl version --client -o yaml 2>/dev/null | sed -n 's/^ *minor: *"\{0,1\}\([0-9]*\).*/\1/p' | head -n 1) || return 1
  [ -n "$found" ] && [ "$found" -ge "$oldest_kubectl_minor" ]
}

digest=$({ cat "$here/go.mod" "$here/go.sum"; echo "$link"; uname -sm; } | sha256sum | cut -c 1-16)
directory=${FOTHER_CACHE:-$HOME/.cache/fother}/cluster-$digest
mkdir -p "$directory"

for part in "$@"; do
  package=$(package_of "$part")
  [ -x "$directory/$part" ] && continue
  [ "$part" = kubectl ] && path_has_kubectl && continue
  if ! command -v go >/dev/null; then
    echo "build.sh: $part is not built yet and building it needs Go ($(sed -n 's/^go //p' "$here/go.mod") or later)" >&2
    exit 3
  fi
  (
    flock 9
    [ -x "$directory/$part" ] && exit
    echo "building $part (minutes the first time; kept in $directory)" >&2
    unfinished=$directory/.$part.$$
    trap 'rm -f "$unfinished"' EXIT
    (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags "$link" -o "$unfinished" "$package") >&2
    mv "$unfinished" "$directory/$part"
  ) 9>"$directory/.lock"
done
echo "$directory"
