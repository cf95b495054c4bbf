#!/usr/bin/env bash
# Builds Pond and runs the demo: an agent fixes a failing test in a sandbox; live log, patch and cost.
# Installs bubblewrap, the sandbox, where it is missing: root or sudo for that alone. Arguments go to `pond demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v bwrap >/dev/null; then
    echo "installing bubblewrap: the demo's agent runs in its sandbox"
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends bubblewrap
fi
cargo build -q -p pond-server --bin pond
exec "${CARGO_TARGET_DIR:-target}/debug/pond" demo "$@"
