#!/bin/sh
# Builds a Debian package with cargo-deb: sh deploy/deb.sh. What is generated from the program comes from the program.
set -eu
cd "$(dirname "$0")/.."
unset CARGO_TARGET_DIR

sh deploy/build.sh
program=target/release/swarmgate
package=target/package
mkdir -p "$package"
"$program" man "$package/man"
"$program" completions bash > "$package/swarmgate.bash"
"$program" completions zsh > "$package/_swarmgate"
"$program" completions fish > "$package/swarmgate.fish"
cargo deb --package swarmgate-gateway --no-build
