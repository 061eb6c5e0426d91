#!/usr/bin/env bash
# Checks what a release would upload, and uploads nothing: the same bytes from two builds, an empty
# environment in which the wheel alone works, and a bill of its materials.
#
#   scripts/check_release.sh OUT            newest dependencies
#   scripts/check_release.sh OUT lowest     the least versions that pyproject.toml allows (Python 3.11)
#
# OUT gets the wheel, the sdist and sbom.json (CycloneDX). PYTHON names the Python (python3).
# It takes a few minutes, most of them pip's, and is not part of .ci/run.
set -euo pipefail

[ $# -ge 1 ] && [ $# -le 2 ] && [ "${2:-lowest}" = lowest ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { printf '\n== %s\n' "$1"; }

step "build twice, from what git knows alone"
"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install -q build hatchling cyclonedx-bom uv
mkdir "$work/source"
git -C "$root" archive HEAD | tar -x -C "$work/source"
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
for build in first second; do
  "$work/tools/bin/python" -m build -q --no-isolation --outdir "$work/$build" "$work/source"
done
diff -r "$work/first" "$work/second"
cp "$work"/first/* "$out"
wheel=$(echo "$work"/first/*.whl)
(cd "$work/first" && sha256sum ./*)

step "install the wheel into an empty environment"
"$python" -m venv "$work/venv"
if [ "${2:-}" = lowest ]; then
  "$work/tools/bin/uv" pip install -q --python "$work/venv/bin/python" --resolution lowest-direct \
    "jaxrec[report,serve] @ file://$wheel"
else
  "$work/venv/bin/pip" install -q "$wheel[report,serve]"
fi
"$work/venv/bin/python" -m pip check

step "use it where there is no checkout"
mkdir "$work/empty"
cd "$work/empty"
"$work/venv/bin/jaxrec" --version
"$work/venv/bin/jaxrec" train --run run
"$work/venv/bin/jaxrec" recommend run --out lists.csv
"$work/venv/bin/jaxrec" similar run --items i0001
"$work/venv/bin/jaxrec" export run --to npz --out vectors.npz
"$work/venv/bin/jaxrec" doctor run
"$work/venv/bin/jaxrec" report run --out report.html
"$work/venv/bin/jaxrec" guide >guides.txt

step "bill of materials"
"$work/tools/bin/cyclonedx-py" environment "$work/venv/bin/python" --output-reproducible -o "$out/sbom.json"
echo "$out: $(ls "$out" | tr '\n' ' ')"
