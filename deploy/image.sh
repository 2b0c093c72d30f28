#!/bin/sh
# Lays out the root of an image: image.sh BINARY ROOT. The binary is one that deploy/build.sh has built.
set -eu
binary=$1
root=$2

install -D -m 755 "$binary" "$root/usr/bin/swarmgate"
strip "$root/usr/bin/swarmgate"
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'swarmgate:x:10001:10001:swarmgate:/data:/nonexistent' > "$root/etc/passwd"
echo 'swarmgate:x:10001:' > "$root/etc/group"
mkdir -p "$root/data"
