#!/usr/bin/env bash
# Every benchmark of one GPU, inside ten minutes; the tables come last.
#
#   scripts/bench_gpu.sh GOWALLA [OUT]
#
# GOWALLA: the folder with LightGCN's train.txt and test.txt. OUT: a folder that gets a copy of the
# JSON lines, to which bench/results/ always adds. Needs jaxrec with a GPU's JAX, torch and
# torch_geometric: pip install -e '.[cuda13,bench]'.
set -euo pipefail
data=$(realpath "$1")
out=${2:-${OUT:-}}
[ -z "$out" ] || out=$(realpath -m "$out")
cd "$(dirname "$0")/.."

python -m jaxrec env
python -c 'import jax; assert jax.default_backend() == "gpu", "JAX sees no GPU here"'
cases=(propagate step rank)
for case in "${cases[@]}"; do
    python -m bench "$case" --data "$data"
done
python -m bench quality --data "$data" --part final --presets gowalla-strong --seeds 0
if [ -n "$out" ]; then
    mkdir -p "$out"
    cp bench/results/{propagate,step,rank,quality}.jsonl "$out"
fi
python -m bench readme --show "${cases[@]}" quality
