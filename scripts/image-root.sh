#!/bin/sh
# Lays out what is in fother's image, for the Containerfile and for the tests on a real node.
#
#   scripts/image-root.sh target/release/fother FOLDER
set -eu

program=$1
root=$2
authorities=etc/ssl/certs/ca-certificates.crt

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/proc" "$root/dev" "$root/sys" "$root/tmp" "$root/var/cache/fother"
cp "$program" "$root/usr/bin/fother"
cp "/$authorities" "$root/$authorities"
echo 'fother:x:65532:65532::/:' >"$root/etc/passwd"
echo 'fother:x:65532:' >"$root/etc/group"

# `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader itself as `/lib64/ld-linux-x86-64.so.2 (0x…)`.
ldd "$program" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
