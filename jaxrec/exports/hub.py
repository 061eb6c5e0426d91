"""Export to a folder for model hubs: model.safetensors, config.json, and a model card README.md."""

import json
import shutil
from pathlib import Path
from typing import Any

from jaxrec.exports import safetensors
from jaxrec.runfolder import Embeddings, read_json

NEEDS: dict[str, str] = {}


def write(table: Embeddings, path: Path, run: Path) -> list[str]:
    """Write the file of ``--to safetensors``, the run's configuration, and a model card."""
    path.mkdir()
    safetensors.write(table, path / "model.safetensors")
    shutil.copyfile(run / "config.json", path / "config.json")
    (path / "README.md").write_text(card(table, run), encoding="utf-8")
    return []


def card(table: Embeddings, run: Path) -> str:
    """Return the model card, which describes the data, protocol, metrics and limits."""
    config, env, evaluation = (read_json(run / f"{n}.json") for n in ("config", "env", "eval"))
    data, model = env.get("data", {}), config.get("model", {})
    metrics = evaluation.get("metrics", {})
    front = {
        "library_name": "jaxrec",
        "tags": ["recommendation", "collaborative-filtering", str(model.get("name"))],
        "model-index": [
            {
                "name": str(config.get("preset")),
                "results": [
                    {
                        "task": {"type": "recommendation"},
                        "dataset": {"name": str(data.get("name")), "type": "interactions"},
                        "metrics": [{"type": n, "value": v} for n, v in metrics.items()],
                    }
                ],
            }
        ],
    }
    lines = ["---", json.dumps(front, indent=1), "---", ""]  # YAML may be written as JSON
    lines += [f"# {_plain(config.get('preset'))}: {_plain(model.get('name'))}", ""]
    lines += [
        f"Embeddings of {len(table.user_ids):,} users and {len(table.item_ids):,} items, "
        f"{table.item.shape[1]} wide, made by jaxrec.",
        "",
        "## Data",
        "",
        *(f"* {_plain(name)}: {_plain(value)}" for name, value in data.items() if name != "notes"),
        f"* fingerprint: {_plain(env.get('fingerprint'))}",
        "",
        "## Results",
        "",
        f"Split: {_plain(evaluation.get('split', 'none'))}. "
        f"{_plain(evaluation.get('protocol', 'Not evaluated: trained on all pairs.'))}",
        "",
    ]
    if metrics:
        baselines = evaluation.get("baselines", {})
        names = [_plain(model.get("name")), *map(_plain, baselines)]
        lines += [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for name, value in metrics.items():
            others = [f"{b[name]:.4f}" if name in b else "" for b in baselines.values()]
            lines.append(f"| {_plain(name)} | {' | '.join([f'{value:.4f}', *others])} |")
        lines.append("")
    lines += [
        "## Limits",
        "",
        "* The model ranks the items of its training data by users' interactions. It does not know "
        "newer items, nor why users chose an item.",
        "* It favours items that were popular in the data, especially for users with few items.",
        "* The metrics were measured on users with held-out pairs in this data, and may differ for "
        "others.",
        "* model.safetensors holds the ids of users; remove them if they are personal data.",
        "",
    ]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    """Convert a value to one line of text, and escape it for Markdown."""
    text = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#{}&" else c for c in text)
