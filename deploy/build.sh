#!/bin/sh
# Builds the program as one file that wants no library of the machine it runs on: sh deploy/build.sh [PROFILE].
# It is then in target/release, or in the folder of another profile. (A macOS program wants the system's own libraries.)
set -eu
cd "$(dirname "$0")/.."
profile=${1:-release}
target=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')

# With --target, the flags are for the program alone and not for what runs while it is built.
RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static" cargo build --locked --target "$host" --profile "$profile" \
    --package swarmgate-gateway --bin swarmgate
mkdir -p "$target/$profile"
cp -f "$target/$host/$profile/swarmgate" "$target/$profile/swarmgate"
