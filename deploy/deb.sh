#!/bin/sh
# Builds a Debian package with cargo-deb: sh deploy/deb.sh [PROGRAM [FILE]]. PROGRAM is one that deploy/build.sh has built,
# the release when there is none named; FILE is where the package goes, else target/debian. What is generated from the
# program comes from the program.
set -eu
program=${1:+$(realpath "$1")}
file=${2:+$(realpath "$2")}
cd "$(dirname "$0")/.."
unset CARGO_TARGET_DIR

if [ -z "$program" ]; then
    sh deploy/build.sh
    program=target/release/swarmgate
fi
package=target/release/package
rm -rf "$package"
mkdir -p "$package"
install -m 755 "$program" "$package/swarmgate"
strip "$package/swarmgate"
program=$package/swarmgate
"$program" man "$package/man"
gzip -9n "$package"/man/*.1
"$program" completions bash > "$package/swarmgate.bash"
"$program" completions zsh > "$package/_swarmgate"
"$program" completions fish > "$package/swarmgate.fish"
cargo deb --package swarmgate-gateway --no-build --no-strip ${file:+--output "$file"}
