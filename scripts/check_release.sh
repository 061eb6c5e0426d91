#!/usr/bin/env bash
# Checks what a release would upload, and uploads nothing: the same bytes from two builds, the files
# in wheel and sdist, the commands of the README from the wheel alone in an empty environment, the
# blocks of README and guides run from it, and a bill of its materials.
#
#   scripts/check_release.sh OUT                   python3 and the newest dependencies
#   scripts/check_release.sh OUT PYTHON            another Python
#   scripts/check_release.sh OUT PYTHON lowest     the least versions that pyproject.toml allows (3.11)
#
# OUT gets the wheel, the sdist, commands.txt (the commands that succeeded) and sbom.json (CycloneDX).
# It takes some minutes and is not part of .ci/run. NO_GUIDES=1 leaves out the blocks of the guides.
set -euo pipefail
unset PYTHONPATH

[ $# -ge 1 ] && [ $# -le 3 ] && [ "${3:-lowest}" = lowest ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
python=${2:-python3}
resolution=highest
[ "${3:-}" != lowest ] || resolution=lowest-direct
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
rm -f "$out"/*.whl "$out"/*.tar.gz "$out/commands.txt" "$out/sbom.json"
cp "$work"/first/* "$out"
wheel=$(echo "$work"/first/*.whl)
(cd "$work/first" && sha256sum ./*)

step "wheel and sdist hold the package with its guides, and neither tests nor data"
"$python" - "$work/source" "$work"/first/* <<'PYTHON'
import sys, tarfile, zipfile
from pathlib import Path

source, *built = map(Path, sys.argv[1:])
wanted = {p.relative_to(source).as_posix() for p in (source / "jaxrec").rglob("*") if p.is_file()}
for path in built:
    if path.suffix == ".whl":
        names = set(zipfile.ZipFile(path).namelist())
        more = {name for name in names if ".dist-info/" in name}
    else:
        names = {n.split("/", 1)[1] for n in tarfile.open(path).getnames() if "/" in n}
        more = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    missing, other = wanted - names, names - more - wanted
    if missing or other:
        sys.exit(f"{path.name}: missing {sorted(missing)}, not of the package {sorted(other)}")
    print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1e6:.2f} MB")
PYTHON

step "install the wheel into an empty environment"
"$python" -m venv "$work/venv"
install() {
  "$work/tools/bin/uv" pip install -q --python "$work/venv/bin/python" \
    --resolution "$resolution" "jaxrec[$1] @ file://$wheel"
}
install report,serve
"$work/venv/bin/python" -m pip check
"$work/tools/bin/cyclonedx-py" environment "$work/venv/bin/python" --output-reproducible \
  -o "$out/sbom.json"

step "the commands of the README, where there is no checkout"
export XDG_CACHE_HOME="$work/cache"
mkdir "$work/empty"
cd "$work/empty"
jaxrec() {
  "$work/venv/bin/jaxrec" "$@"
  printf 'jaxrec %s\n' "$*" >>"$out/commands.txt"
}
jaxrec --version
jaxrec train
"$python" - <<'PYTHON'
import random

random.seed(0)
pairs = [(user, 4 * random.randrange(40) + user % 4) for user in range(200) for _ in range(15)]
lines = [f"c{user},sku{item}\n" for user, item in dict.fromkeys(pairs)]
open("shop.csv", "w").writelines(["customer,sku\n", *lines])
open("sold-out.txt", "w").write("sku0\nsku1\n")
PYTHON
jaxrec data stats shop.csv
jaxrec train lightgcn --data shop.csv --run runs/shop --epochs 5
jaxrec refit runs/shop --run runs/live
jaxrec recommend runs/live --out recs.parquet -k 20 --deny sold-out.txt
"$work/venv/bin/python" - "$work/venv/bin/jaxrec" <<'PYTHON'
import json, re, signal, subprocess, sys, urllib.request

server = subprocess.Popen(
    [sys.argv[1], "serve", "runs/live", "--port", "0"], stderr=subprocess.PIPE, text=True
)
for line in server.stderr:
    print(line, end="")
    address = re.search(r" on (http://\S+)", line)
    if address:
        break
else:
    sys.exit(f"the server ended with status {server.wait()}")
with urllib.request.urlopen(f"{address[1]}/recommend?user=c1&k=3") as answer:
    items = json.load(answer)["items"]
server.send_signal(signal.SIGINT)
server.wait()
print(*items, sep="\n")
assert len(items) == 3, items
PYTHON
echo "jaxrec serve runs/live --port 0" >>"$out/commands.txt"
jaxrec similar runs/live --items sku1
jaxrec export runs/live --to npz --out vectors.npz
jaxrec doctor runs/shop
jaxrec report runs/shop --out report.html
jaxrec guide
echo "$out: $(ls "$out" | tr '\n' ' ')"

[ -z "${NO_GUIDES:-}" ] || exit 0
step "the blocks of README and guides, from the wheel"
install report,serve,sweep,test
find "$work/source/jaxrec" -name '*.py' -delete  # so that only the installed package can be imported
cd "$work/source"
PATH="$work/venv/bin:$PATH" "$work/venv/bin/pytest" tests/test_documents.py -k block
