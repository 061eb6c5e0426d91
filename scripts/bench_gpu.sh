#!/usr/bin/env bash
# The benchmarks of one GPU in at most nine minutes, the most telling ones first, each line written
# as it comes; what does not fit into the time is left out and told.
#
#   scripts/bench_gpu.sh GOWALLA [OUT]
#
# GOWALLA: the folder with LightGCN's train.txt and test.txt. OUT: a folder that gets a copy of the
# JSON lines, to which bench/results/ always adds. Takes the python on the path (or $PYTHON) with
# whatever jax and CUDA it has; torch is compared with where it is installed. No network. DEADLINE:
# seconds, 540 where not given. Without a GPU it goes through the same steps on the CPU.
set -uo pipefail
data=$(realpath "$1")
out=${2:-${OUT:-}}
[ -z "$out" ] || { mkdir -p "$out"; out=$(realpath "$out"); }
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
deadline=$(($(date +%s) + ${DEADLINE:-540}))
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# at SECONDS NAME COMMAND...: runs it, for as long as there is time; a failure does not end the rest.
at() {
  local least=$1 name=$2
  shift 2
  local left=$((deadline - $(date +%s)))
  if [ "$left" -lt "$least" ]; then
    echo "== $name: left out, $left s are left"
    return
  fi
  echo "== $name ($left s left)"
  timeout --signal=INT --kill-after=10 "$left" "$@" || echo "== $name ended with status $?"
  if [ -n "$out" ]; then cp bench/results/*.jsonl "$out" 2>/dev/null; fi
}

has_torch=no
"$python" -c 'import torch, torch_geometric' 2>/dev/null && has_torch=yes

at 10 "versions and self-check" "$python" -m jaxrec env --check
at 20 "gowalla-fast: recall@20 of an epoch" \
  "$python" -m jaxrec train gowalla-fast --data "$data" --run "$runs/fast" --log.no-doctor
if [ "$has_torch" = yes ]; then
  at 20 "a step of LightGCN, D = 64" "$python" -m bench step --data "$data" --rounds 7
  at 20 "a step of LightGCN, D = 128" "$python" -m bench step --data "$data" --dim 128 --rounds 7
  at 20 "the product over edges" "$python" -m bench propagate --data "$data" --rounds 7
  at 20 "ranking of all users" "$python" -m bench rank --data "$data" --rounds 5
else
  echo "== no torch with torch_geometric here: step, propagate and rank compare with them"
fi
short=(--train.epochs 1 --eval.select-on none)
at 30 "equal bits, first run" "$python" -m jaxrec train lightgcn-gowalla --data "$data" \
  --run "$runs/one" "${short[@]}"
at 20 "equal bits, second run" "$python" -m jaxrec train lightgcn-gowalla --data "$data" \
  --run "$runs/two" "${short[@]}"
if [ -f "$runs/one/metrics.jsonl" ] && [ -f "$runs/two/metrics.jsonl" ]; then
  if cmp -s "$runs/one/metrics.jsonl" "$runs/two/metrics.jsonl"; then
    echo "equal bits: metrics.jsonl is the same twice"
  else
    echo "NOT equal bits: metrics.jsonl differs"
  fi
fi
at 30 "the papers' 1000 epochs, for as long as there is time" \
  "$python" -m jaxrec train lightgcn-gowalla --data "$data" --run "$runs/papers"
if [ -f "$runs/papers/metrics.jsonl" ]; then
  echo "reached: $(grep recall "$runs/papers/metrics.jsonl" | tail -n 1)"
fi
