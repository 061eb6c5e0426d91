"""Writes bench/README.md and its plot from bench/results, using the last line of each figure."""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from bench.common import RESULTS

HERE = Path(__file__).parent
PLOT = "quality.svg"
INTRO = """# Benchmarks

Every figure is a line of `bench/results/`, written by the command above its table and read back by
`python -m bench readme`, which makes this page. Cases that compare with torch, torch_geometric,
implicit or pandas need the extra: `pip install -e '.[bench]'`. `--data gowalla` is a folder with
LightGCN's train.txt and test.txt; without it the cases take synthetic data of the same size.

Each figure is a median, with the range and the number n of measurements in brackets. Compilation
and warm-up are left out, and calls that are compared take turns in one process. The machine is
shared and noisy: trust the ratios. No figure has been measured on a GPU yet.

Studies, each with its question, method, result and limits:

* [Gowalla](gowalla.md): every row on LightGCN's split, and how often test was read for it
* [Graph filters](filters.md): what was tried for Gowalla's record, with every number
* [auto](auto.md): the command against its single candidates, and other libraries
* [The doctor](doctor-readings.md): three readings of planted faults and sound runs
* [Item graphs](item-graphs.md): skip-gram, node2vec and factorisations beside gensim
* [Meshes](meshes.md): bytes between devices, 100 million pairs, tables in host memory

Cases: {cases}.
"""
CASES = (
    "compiled",
    "compiled-forms",
    "compiled-plan",
    "step",
    "propagate",
    "growth",
    "rank",
    "serve",
    "first-list",
    "server-faults",
    "memory",
    "large",
    "mesh",
    "sample",
    "sampled",
    "tables",
    "host-tables",
    "quality",
    "ratings",
    "lecture",
    "towers",
    "cases",
    "doctor",
    "doctor-presets",
    "doctor-healthy",
    "doctor-cost",
    "ingest",
    "pairs-import",
    "walks",
    "skipgram",
    "item-graph",
    "item-scale",
    "cold",
    "kills",
    "reliability",
    "sweep",
    "release",
)


def lines(case: str) -> list[dict[str, Any]]:
    """Return the last line of each figure of a case, by first occurrence; ``at`` is its number."""
    path, found = RESULTS / f"{case}.jsonl", {}
    if path.is_file():
        for at, text in enumerate(path.read_text(encoding="utf-8").splitlines()):
            line = json.loads(text) | {"at": at}
            names = ("impl", "what", "data", "dim", "rows")
            if case == "compiled":  # here "rows" is part of the result
                names = names[:-1]
            key = [line.get(name) for name in names]
            key += [line["command"]] if case == "kills" else []
            found[json.dumps([*key, gpu_of(line)])] = line
    return list(found.values())


def gpu_of(line: dict[str, Any]) -> str | None:
    """Return the GPU on which a figure was measured; None for a CPU."""
    return None if "cores" in line["device"] else line["device"]


def comparable(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the times of the machine with the newest one, and all figures that are not times."""
    newest = max(group, key=lambda line: line["at"])
    times = newest["unit"] in ("ns", "ms", "s", "min") or newest["unit"].endswith("/s")
    return [line for line in group if line["device"] == newest["device"] or not times]


def figure(line: dict[str, Any]) -> str:
    """Format a median with its unit (range, n)."""
    unit, value, spread = line["unit"], line["median"], line["spread"]
    share = "@" in unit or unit in ("auc", "average_precision")
    digits = 4 if share else 2 if value < 100 else 0
    text = f"{value:.{digits}f}"
    if line["n"] > 1:
        text += f" [{spread:.{digits}f}, n={line['n']}]"
    text = text if "@" in unit else f"{text} {unit}"
    return text + (f"; ours is {line['above']:.1f} times it" if "above" in line else "")


def table(case: str) -> str:
    """Return a section: the command, then a table per figure, with the ratio to our fastest."""
    shown = lines(case)
    if not shown:
        return ""
    text, used = [f"## {case}", "", f"`{shown[-1]['command']}`", ""], []
    if case in ROWS:
        return _ended([*text, *ROWS[case](shown)], shown)

    def title(line: dict[str, Any]) -> tuple[str | None, ...]:
        return line["what"], line.get("data"), gpu_of(line)

    for name in dict.fromkeys(map(title, shown)):
        group = comparable([line for line in shown if title(line) == name])
        used += group
        about = ", ".join(part for part in name[1:] if part)
        mine = [line for line in group if line["impl"].startswith("jaxrec")]
        ours = min(mine, key=lambda line: line["median"], default=None)
        text += [
            "",
            f"{name[0]}{f' ({about})' if about else ''}",
            "",
            "| | | times ours |",
            "|---|---|---|",
        ]
        for line in group:
            compares = ours is not None and line["unit"] in ("ms", "s") and len(group) > 1
            ratio = f"{line['median'] / ours['median']:.2f}" if compares and ours else ""
            text.append(f"| {line['impl']} | {figure(line)} | {ratio} |")
    return _ended(text, used)


def _ended(text: list[str], used: list[dict[str, Any]]) -> str:
    commits = ", ".join(dict.fromkeys(line["commit"] for line in used))
    devices = "; ".join(dict.fromkeys(line["device"] for line in used))
    return "\n".join([*text, "", f"Commit {commits}; {devices}.", ""])


def kills(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each run that was killed repeatedly, and one for all."""
    rows = ["| run | kills | by signal | met | runs with the unbroken one's bits |"]
    rows.append("|---|---|---|---|---|")
    whole: dict[str, Counter[str]] = {"signals": Counter(), "stages": Counter()}
    for line in shown:
        for name, counts in whole.items():
            counts.update(line[name])
        met = [_counts(line[name]) for name in whole]
        good = f"{line['runs'] - line['runs_with_other_bits']} of {line['runs']}"
        seed = line["command"].rpartition(" ")[2]
        rows.append(
            f"| {line['impl']}, seed {seed} | {line['kills']} | {met[0]} | {met[1]} | {good} |"
        )
    runs, other = (sum(line[n] for line in shown) for n in ("runs", "runs_with_other_bits"))
    met = [_counts(counts) for counts in whole.values()]
    total = sum(line["kills"] for line in shown)
    return [*rows, f"| all | {total} | {met[0]} | {met[1]} | {runs - other} of {runs} |"]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))


def server_faults(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each kind of requests, with their number and the failures."""
    rows = ["| | requests | failures |", "|---|---|---|"]
    for line in shown:
        more = f", {line['reloads']} reloads" if "reloads" in line else ""
        rows.append(f"| {line['what']}{more} | {line['requests']:,} | {line['value']:.0f} |")
    return rows


def reliability(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each fault: what happened, and how many of its tests passed."""
    rows = ["| fault | what happened | passed |", "|---|---|---|"]
    for line in shown:
        told = [text.replace("|", "\\|").replace("\n", " ") for text in line.get("happened", ())]
        if "inputs" in line:
            told.append(f"{line['inputs']:,} inputs, {line['refused']:,} of them files refused")
        passed = f"{line['passed']} of {line['tests']}"
        rows.append(f"| {line['impl']} | {'<br>'.join(told)} | {passed} |")
    return rows


def release(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each Python: its JAX, the commands that succeeded, and the wheel."""
    rows = [
        "| from the wheel alone | jax | commands that succeeded | packages in its bill | wheel |"
    ]
    rows.append("|---|---|---|---|---|")
    for line in shown:
        cells = [line["impl"], line["versions"]["jax"], str(line["n"])]
        cells += [str(line["sbom_components"]), f"`{line['sha256'][:12]}`, twice the same"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def compiled(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each program and machine; nothing is timed."""
    rows = [
        "Read from the compiled programs, of a step or of a call; no such machine was there. "
        "Kernels: of most steps, and of one in which the doctor looks. At least: bytes at the "
        "memory's full bandwidth; on a TPU 8 cycles for each row that is gathered or scattered, "
        "which is an assumption.",
        "",
    ]
    rows.append(
        "| preset | program | machine | users, items, pairs | memory | bytes moved in memory | "
        "kernels | atomics | from other devices | at least |"
    )
    rows.append("|---|---|---|---|---|---|---|---|---|---|")
    for line in sorted(shown, key=lambda line: (line["target"], line["preset"], line["what"])):
        start = f"| {line['preset']} | {line['what']} | {line['target']} |"
        if line["what"] == "refused":
            said = line["said"].replace("|", "\\|")
            rows.append(f"{start} {said} | | | | | | |")
            continue
        usual, most = line["usual_kernels"], line["kernels"]
        kernels = f"{usual}" if most <= usual else f"{usual} to {most}"
        others = sum(line["collectives"].values())
        cells = [
            ", ".join(f"{n:,}" for n in line["sizes"]),
            f"{line['memory'] / 1e6:,.0f} MB",
            f"{line['n_bytes'] / 1e9:.3g} GB",
            kernels,
            "" if line["target"].startswith("v") else str(line["atomics"]),
            f"{others / 1e6:,.1f} MB" if others else "",
            f"{line['floor_ms']:.3g} ms",
        ]
        rows.append(f"{start} {' | '.join(cells)} |")
    return rows


def compiled_forms(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each form of a product and machine; nothing is timed."""
    rows = [
        "Read from the compiled programs of one product; no such machine was there. Main memory: "
        "bytes read and written there; on a TPU, fast memory takes the others.",
        "",
        "| form | machine | main memory | all memory | gathered rows alone | kernels | atomics |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in sorted(shown, key=lambda line: (line["target"], line["value"])):
        sizes = line["value"], line["all_bytes"], line["floor_of_gathered_rows"]
        cells = [*(f"{n / 1e9:.3g} GB" for n in sizes), f"{line['kernels']}"]
        cells.append("" if line["target"].startswith("v") else f"{line['atomics']}")
        rows.append(f"| {line['impl']} | {line['target']} | {' | '.join(cells)} |")
    return rows


def compiled_plan(shown: list[dict[str, Any]]) -> list[str]:
    """Return a row for each configuration and machine; nothing is timed."""
    rows = [
        "Device memory of a step, by the compiled program and by `jaxrec plan`; no such machine "
        "was there. Arguments: the state and the data. Peak: the most bytes in use at any moment.",
        "",
        "| configuration | machine | users, items, pairs | arguments | temporary | peak | compiled "
        "| planned | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in sorted(shown, key=lambda line: (line["target"].startswith("v"), line["at"])):
        numbers = [line[part] for part in ("arguments", "temporary", "peak", "value", "total")]
        cells = [line["impl"], line["target"], ", ".join(f"{n:,}" for n in line["sizes"])]
        cells += [f"{n / 1e6:,.0f} MB" for n in numbers]
        rows.append(f"| {' | '.join(cells)} | {line['total'] / line['value'] - 1:+.1%} |")
    return rows


ROWS = {
    "kills": kills,
    "reliability": reliability,
    "release": release,
    "compiled": compiled,
    "compiled-forms": compiled_forms,
    "compiled-plan": compiled_plan,
    "server-faults": server_faults,
}


def plot(path: Path) -> bool:
    """Draw validation recall by training seconds as SVG; return whether there are curves."""
    curves = {line["impl"]: line["curve"] for line in lines("quality") if "curve" in line}
    if not curves:
        return False
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "jaxrec"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="." if len(curve) > 1 else "o", label=name)
    axes.set(xscale="log", xlabel="training seconds, compilation included")
    axes.set_ylabel("validation recall@20")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"[ \t]+\n", "\n", text), encoding="utf-8")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", nargs="+", choices=CASES, help="print these tables alone")
    args = parser.parse_args()
    if args.show:
        print("\n".join(table(case) for case in args.show))
        return
    index = ", ".join(f"[{case}](#{case})" for case in CASES if lines(case))
    parts = [INTRO.format(cases=index), *(table(case) for case in CASES)]
    if plot(HERE / PLOT):
        parts.append(f"![Validation recall@20 by training seconds]({PLOT})\n")
    text = "\n".join(part for part in parts if part)
    (HERE / "README.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")


if __name__ == "__main__":
    main()
