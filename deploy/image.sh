#!/bin/sh
# Lays out the root of an image: image.sh BINARY ROOT. What the binary is linked to is found where it was built.
set -eu
binary=$1
root=$2

install -D -m 755 "$binary" "$root/usr/bin/swarmgate"
strip "$root/usr/bin/swarmgate"
ldd "$binary" | awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^\//) print $i }' | while read -r library; do
    install -D -m 755 "$library" "$root$library"
done
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
echo 'swarmgate:x:10001:10001:swarmgate:/data:/nonexistent' > "$root/etc/passwd"
echo 'swarmgate:x:10001:' > "$root/etc/group"
mkdir -p "$root/data"
