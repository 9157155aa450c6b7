#!/usr/bin/env bash
# Push and pull of many objects through an S3 server on the loopback, beside `aws s3 sync` on the same server and the same
# files. Installs the server (scripts/install-s3-server.sh) and awscli (into target/peers/remote).
# Usage: benches/peers/remote.sh [OBJECTS [BYTES [ROUNDS]]]; by default 10,000 objects of 200,000 bytes, twice
# RUNNER_BENCH_SCRATCH names the folder whose disk is used (default: the system's temporary folder); it takes four times the size.
set -euo pipefail
cd "$(dirname "$0")/../.."

objects="${1:-10000}"
bytes="${2:-200000}"
rounds="${3:-2}"
target="${CARGO_TARGET_DIR:-target}"
environment="target/peers/remote"
port="${RUNNER_BENCH_PORT:-13871}"

scripts/install-s3-server.sh
if ! [ -x "$environment/bin/aws" ]; then
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check 'awscli<2'
fi
runner="${RUNNER:-}"
if [ -z "$runner" ]; then
    cargo build --quiet --release --workspace --bin runner
    runner="$PWD/$target/release/runner"
fi
aws="$PWD/$environment/bin/aws"
server="$PWD/$target/tools/bin/s3s-fs"

scratch="$(mktemp -d -p "${RUNNER_BENCH_SCRATCH:-${TMPDIR:-/tmp}}")"
server_id=
cleanup() {
    [ -n "$server_id" ] && kill "$server_id" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
cd "$scratch"
mkdir -p served/ours served/theirs
export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=us-east-1 AWS_ALLOW_HTTP=true
export AWS_ENDPOINT="http://127.0.0.1:$port" AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE="$scratch/aws.config"
# As many requests at a time as runner has.
printf '[default]\ns3 =\n  max_concurrent_requests = 16\n' >"$AWS_CONFIG_FILE"
"$server" --host 127.0.0.1 --port "$port" --access-key key --secret-key secret served >server.log 2>&1 &
server_id=$!

# The objects: files of noise, as the outputs of ten stages.
each=$((objects / 10))
{
    echo "pipeline: many"
    echo "stages:"
    for stage in $(seq 0 9); do
        echo "  s$stage:"
        echo "    uses: command"
        echo "    with:"
        echo "      run: [sh, -c, \"mkdir {out.files} && head -c $((each * bytes)) /dev/urandom | split -a 5 -b $bytes - {out.files}/$stage-\"]"
        echo "      outputs: {files: {path: files}}"
    done
} >many.yaml
"$runner" run many.yaml --store source --quiet >/dev/null
du -sh --apparent-size source/v1/objects
find source/v1/objects -type f | wc -l

timed() {
    local name="$1"
    shift
    sync
    local before after
    before=$(date +%s.%N)
    "$@" >last.log 2>&1 || { cat last.log >&2; exit 1; }
    after=$(date +%s.%N)
    printf '%-34s %8.2f s\n' "$name" "$(echo "$after - $before" | bc)"
}

for round in $(seq "$rounds"); do
    echo "round $round"
    rm -rf served/ours/* served/theirs/* served/.bucket-* fetched-ours fetched-theirs
    timed "runner cache push" "$runner" cache push --all --store source --remote s3://ours/x
    timed "aws s3 sync to the server" "$aws" --endpoint-url "$AWS_ENDPOINT" s3 sync --only-show-errors source/v1 s3://theirs/x/v1
    timed "runner cache push, nothing new" "$runner" cache push --all --store source --remote s3://ours/x
    timed "aws s3 sync, nothing new" "$aws" --endpoint-url "$AWS_ENDPOINT" s3 sync --only-show-errors source/v1 s3://theirs/x/v1
    timed "runner cache pull" "$runner" cache pull --all --store fetched-ours --remote s3://ours/x
    timed "aws s3 sync from the server" "$aws" --endpoint-url "$AWS_ENDPOINT" s3 sync --only-show-errors s3://theirs/x/v1 fetched-theirs/v1
    timed "runner cache pull, nothing new" "$runner" cache pull --all --store fetched-ours --remote s3://ours/x
done
"$runner" cache verify --store fetched-ours
