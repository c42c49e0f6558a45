#!/usr/bin/env bash
# Builds parts of a real cluster from the Go modules below this folder and prints the directories that hold them.
#
#   tests/cluster/build.sh etcd kube-apiserver kube-controller-manager kubectl
#   tests/cluster/build.sh helm
#   tests/cluster/build.sh kubectl-1.30
#
# Helm and the oldest kubectl that works have modules, and so directories, of their own: they want other releases of
# Kubernetes' libraries.
# A directory is outside the clone and named by what goes into the build, so that a part is built once per
# machine; concurrent calls wait for each other. kubectl is built only where PATH has none that is new enough.
# Exit code 3: a part is missing and there is no Go to build it with.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
oldest_kubectl_minor=30

version_in() { awk -v module="$2" '$1 == module { print $2; exit }' "$1/go.mod"; }

package_of() {
  case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kubectl) echo "k8s.io/kubernetes/cmd/$1" ;;
    kubectl-*) echo k8s.io/kubernetes/cmd/kubectl ;;
    helm) echo helm.sh/helm/v4/cmd/helm ;;
    *) echo "build.sh: no such part: $1" >&2 && return 2 ;;
  esac
}

module_of() {
  case $1 in
    helm | kubectl-*) echo "$here/$1" ;;
    *) echo "$here" ;;
  esac
}

link_of() {
  local module link version minor package
  module=$(module_of "$1")
  link="-s -w"
  if [ "$1" = helm ]; then
    echo "$link -X helm.sh/helm/v4/internal/version.version=$(version_in "$module" helm.sh/helm/v4)"
    return
  fi
  version=$(version_in "$module" k8s.io/kubernetes)
  minor=${version#v1.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    link+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
  done
  echo "$link"
}

path_has_kubectl() {
  local found
  found=$(kubectl version --client -o yaml 2>/dev/null | sed -n 's/^ *minor: *"\{0,1\}\([0-9]*\).*/\1/p' | head -n 1) || return 1
  [ -n "$found" ] && [ "$found" -ge "$oldest_kubectl_minor" ]
}

directory_of() {
  local module digest
  module=$(module_of "$1")
  digest=$({ cat "$module/go.mod" "$module/go.sum"; link_of "$1"; uname -sm; } | sha256sum | cut -c 1-16)
  echo "${FOTHER_CACHE:-$HOME/.cache/fother}/cluster-$digest"
}

for part in "$@"; do
  package=$(package_of "$part")
  module=$(module_of "$part")
  link=$(link_of "$part")
  directory=$(directory_of "$part")
  mkdir -p "$directory"
  [ -x "$directory/$part" ] && continue
  [ "$part" = kubectl ] && path_has_kubectl && continue
  if ! command -v go >/dev/null; then
    echo "build.sh: $part is not built yet and building it needs Go ($(sed -n 's/^go //p' "$module/go.mod") or later)" >&2
    exit 3
  fi
  (
    flock 9
    [ -x "$directory/$part" ] && exit
    echo "building $part (minutes the first time; kept in $directory)" >&2
    unfinished=$directory/.$part.$$
    trap 'rm -f "$unfinished"' EXIT
    (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$link" -o "$unfinished" "$package") >&2
    mv "$unfinished" "$directory/$part"
  ) 9>"$directory/.lock"
done
for part in "$@"; do directory_of "$part"; done | uniq
