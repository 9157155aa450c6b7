#!/usr/bin/env bash
# Trials of a small pipeline on a Slurm cluster of four nodes on this machine: `runner sweep --on slurm`, then the same trials
# through submitit (a job array of Python functions, each of which calls `runner run` on the same kind of store, so that both
# compute the same and share what is common). Wall time from the submission to the last result.
# Needs Slurm (scripts/install-slurm.sh) and Python; installs submitit into target/peers/sweep.
# Usage: benches/peers/sweep.sh [TRIALS]; by default 200
set -euo pipefail
cd "$(dirname "$0")/../.."

trials="${1:-200}"
target="$(realpath "${CARGO_TARGET_DIR:-target}")"
runner="$target/release/runner"
venv="$target/peers/sweep"
cargo build --release --quiet
if [[ ! -x $venv/bin/python ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" --quiet install submitit==1.5.3
fi
folder="$(mktemp -d /tmp/rs.XXXXXX)"
# Everybody must be able to reach the cluster's socket below it.
chmod 755 "$folder"
trap 'scripts/slurm-cluster.sh down "$folder/cluster"; rm -rf "$folder"' EXIT
SLURM_CONF="$(scripts/slurm-cluster.sh up "$folder/cluster" 4 18700)"
export SLURM_CONF

cat >"$folder/pipeline.yaml" <<'YAML'
pipeline: toy
seed: 1
params: {clip: 5.0}
stages:
  raw: {uses: generate, with: {rows: {train: 200, test: 100}}}
  scaled: {uses: normalize, from: raw, with: {method: zscore, fit: train, clip: "${clip}"}}
  windows: {uses: window, from: scaled, with: {length: 10}}
  model: {uses: train, from: windows, with: {model: {kind: pca}}}
  scores: {uses: score, from: {model: model, windows: windows}}
  metrics: {uses: evaluate, from: scores, with: {threshold: {kind: quantile, anomaly_ratio: 5}, metrics: [f1, roc_auc]}}
YAML
cat >"$folder/sweep.yaml" <<YAML
sweep: toy
pipeline: pipeline.yaml
axes: {clip: {uniform: [1, 10], points: $trials}}
objective: {stage: metrics, metric: roc_auc}
slurm: {cpus: 1}
YAML

now() { date +%s.%N; }
since() { python3 -c "import sys; print(f'{float(sys.argv[2]) - float(sys.argv[1]):.1f} s')" "$1" "$(now)"; }

echo "$trials trials of a 6-stage pipeline on 4 nodes of 2 processors (one machine of $(nproc))"
for per_job in 1 8; do
    sed -i "s/^slurm: .*/slurm: {cpus: 1, trials_per_job: $per_job}/" "$folder/sweep.yaml"
    start="$(now)"
    "$runner" sweep "$folder/sweep.yaml" --on slurm --store "$folder/ours-$per_job" >/dev/null
    submitted="$(since "$start")"
    until [[ -z $(squeue --noheader) ]]; do sleep 0.2; done
    done_count="$("$runner" sweep status "$folder/sweep.yaml" --store "$folder/ours-$per_job" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["done"])')"
    echo "runner, $per_job trials a job: $(since "$start"), submitted after $submitted, $done_count done"
done

cat >"$folder/peer.py" <<'PYTHON'
import subprocess, sys, time
import submitit

runner, folder, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])

def trial(clip):
    command = [runner, "run", f"{folder}/pipeline.yaml", "--set", f"clip={clip}", "--store", f"{folder}/theirs",
               "--target", "metrics", "--quiet", "--threads", "1"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

executor = submitit.AutoExecutor(folder=f"{folder}/logs", cluster="slurm")
executor.update_parameters(timeout_min=10, cpus_per_task=1, slurm_array_parallelism=1000)
start = time.time()
jobs = executor.map_array(trial, [round(1 + 9 * index / max(trials - 1, 1), 5) for index in range(trials)])
submitted = time.time() - start
results = [job.result() for job in jobs]
print(f"submitit: {time.time() - start:.1f} s, submitted after {submitted:.1f} s, {len(results)} done")
PYTHON
# submitit looks for results with growing pauses, and complains of the missing accounting; this is how its users wait.
"$venv/bin/python" "$folder/peer.py" "$runner" "$folder" "$trials" 2>/dev/null | grep "^submitit:"
