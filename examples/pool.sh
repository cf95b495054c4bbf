#!/usr/bin/env bash
# A pool as an operator sets it up, with the command line and curl: a server, an orchestrator and two workers as processes of their own. An agent
# (here a shell command) edits the sources in a sandbox, and its patch applies to a clean copy. Everything is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -q -p pond-server --bin pond
pond=$PWD/${CARGO_TARGET_DIR:-target}/debug/pond
[ -x "$pond" ] || pond=${CARGO_TARGET_DIR}/debug/pond
work=$(mktemp -d)
chmod 755 "$work"
started=()
stop() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap stop EXIT

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
get() { python3 -c 'import json, sys; value = json.load(sys.stdin)
for key in sys.argv[1].split("."): value = value[int(key)] if key.isdigit() else value[key]
print(value)' "$1"; }
until_answers() {
    for _ in $(seq 100); do curl -sf "$1" >/dev/null && return; sleep 0.1; done
    echo "nothing answers at $1"; cat "$work"/*.log; exit 1
}
fails() { echo "FAILED: $1"; tail -n 40 "$work"/*.log; exit 1; }

mkdir -p "$work/sources/app"
printf 'hello\n' >"$work/sources/app/greeting.txt"

# The server.
POND=http://127.0.0.1:$(port)
export POND_SERVICE_TOKEN=example-service-token-$RANDOM$RANDOM POND_URL=$POND
H="Authorization: Bearer $POND_SERVICE_TOKEN"
POND_BIND=${POND#http://} POND_STATE_DIR=$work/server POND_LOCAL_SOURCE_ROOT=$work/sources \
    POND_DATABASE_URL=${POOL_DATABASE_URL:-} "$pond" server >"$work/server.log" 2>&1 &
started+=($!)
until_answers "$POND/health/ready"

# The harness.
"$pond" harness from-preset shell >/dev/null

# A pairing code, an orchestrator.
"$pond" pool pairing-code 2>/dev/null |
    "$pond" orchestrator pair --pond "$POND" --code-file - --state-dir "$work/orchestrator" >"$work/pair.log" 2>&1 ||
    fails "pairing"
orchestrator=127.0.0.1:$(port)
"$pond" orchestrator serve --bind "$orchestrator" --token "pool-secret-$RANDOM" --state-dir "$work/orchestrator" \
    >"$work/orchestrator.log" 2>&1 &
started+=($!)
until_answers "http://$orchestrator/health/live"

# Two workers, each with a code of its own.
for name in w1 w2; do
    "$pond" pool enroll-code --name "$name" --tags pool:trusted --capabilities harness.shell,sandbox.bubblewrap \
        >"$work/$name.code" 2>/dev/null
    "$pond" worker --orchestrator "http://$orchestrator" --enroll-code-file "$work/$name.code" --name "$name" \
        --state-dir "$work/$name" --concurrency 1 >"$work/$name.log" 2>&1 &
    started+=($!)
done
for _ in $(seq 150); do
    online=$("$pond" pool workers --json | { grep -o '"status":"online"' || true; } | wc -l)
    [ "$online" = 2 ] && break
    sleep 0.1
done
[ "$online" = 2 ] || fails "two workers online, found $online"

# Two runs at once, so that both workers have one.
submit() {
    curl -sfX POST "$POND/v1/runs" -H "$H" -H 'content-type: application/json' -d '{
        "sources": [{"label": "app", "kind": "folder", "config": {"path": "app"}}],
        "definition": {"stages": [{"key": "fix", "name": "Fix", "executor": {"kind": "swarm", "harness": "shell",
            "prompt": "echo from the agent; echo changed >> greeting.txt",
            "sandbox": {"profile": "untrusted-code-write", "tier": "trusted"}}}]}}' | get id
}
runs=("$(submit)" "$(submit)")
for run in "${runs[@]}"; do
    for _ in $(seq 300); do
        status=$(curl -sf "$POND/v1/runs/$run" -H "$H" | get run.status)
        case "$status" in done | failed | cancelled) break ;; esac
        sleep 0.1
    done
    [ "$status" = done ] || { curl -s "$POND/v1/runs/$run" -H "$H"; fails "run $run ended $status"; }
    curl -sf "$POND/v1/runs/$run/logs?since=0&limit=" -H "$H" | grep -q 'from the agent' || fails "no log line of the agent"
    curl -sf "$POND/v1/runs/$run/artifacts/changes.patch" -H "$H" >"$work/changes.patch"
    rm -rf "$work/clean" && cp -r "$work/sources/app" "$work/clean"
    (cd "$work/clean" && git init -q && git apply "$work/changes.patch")
    grep -q changed "$work/clean/greeting.txt" || fails "the patch changes nothing"
done

# What was done is written down, and the log of it is whole.
"$pond" audit verify >"$work/audit.log" || fails "the audit log"
redeemed=$("$pond" audit list --action bundle.redeem --json | { grep -o '"bundle.redeem"' || true; } | wc -l)
[ "$redeemed" = 2 ] || fails "two redemptions of sources in the audit log, found $redeemed"
echo "two workers behind an orchestrator; ${#runs[@]} runs done; their patches apply"
