"""Commands on a finished run: evaluate, similar, embed, export and report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from jaxrec import config as configs
from jaxrec.cli.arguments import parse
from jaxrec.cli.process_settings import own_process
from jaxrec.config.checks import INT32, Range
from jaxrec.errors import InputError


@dataclass(frozen=True)
class Evaluate:
    """Rank all items for the users of a held-out split, and write metrics to RUN/eval.json."""

    run: Positional[str]
    """Run folder."""
    split: Literal["test", "val", "validation"] = "test"
    """Split to evaluate."""
    k: Annotated[tuple[int, ...] | None, Range(1, INT32)] = None
    """Cut-offs K of the metrics; by default those of the run."""
    baselines: tuple[Literal["item-knn", "ease"], ...] = ()
    """Baselines to evaluate besides popularity and random."""
    cold: Literal["keep", "drop"] | None = None
    """Whether to keep or drop users and items without a train pair; by default as in the run."""
    metrics: tuple[str, ...] = ()
    """Metrics of lists beyond accuracy: gini, entropy, novelty, epc, popularity, popularity_lift,
    diversity, personalisation, serendipity, miscalibration, user_gap; uni100 (sampled and biased,
    only to compare with papers that use it); or all."""
    per_user: bool = False
    """Also write each user's metrics to RUN/per_user.parquet, which `jaxrec compare` reads."""
    data: str | None = None
    """Path of the data, if it moved since training."""


def evaluate(args: list[str]) -> None:
    """Evaluate a finished run and its baselines; print a table and write RUN/eval.json."""
    parsed = parse(Evaluate, args, "jaxrec evaluate")
    from jaxrec.config import shown_cutoff
    from jaxrec.data.saved_split import told
    from jaxrec.evaluation.cold import sentence
    from jaxrec.evaluation.run import evaluate as measure
    from jaxrec.log import Reporter

    own_process()
    split = "test" if parsed.split == "test" else "validation"
    content = measure(
        parsed.run,
        split,
        parsed.k,
        baselines=parsed.baselines,
        data=parsed.data,
        cold=parsed.cold,
        per_user=parsed.per_user,
        metrics=parsed.metrics,
    )
    # eval.json also keeps the cut-offs of earlier evaluations; show only the requested cut-offs.
    ks = parsed.k or configs.load(Path(parsed.run) / "config.json").eval.k
    cutoffs = {"", *map(str, ks)}
    names = [name for name in content["metrics"] if name.partition("@")[2] in cutoffs]
    columns = {"model": content["metrics"], **content["baselines"]}
    rows = [
        [name, *(f"{m[name]:.6f}" if name in m else "" for m in columns.values())] for name in names
    ]
    reporter = Reporter()
    sizes = f"{content['users']:,} users"
    if "pairs" in content:
        sizes = f"{content['pairs']:,} pairs, {content['users']:,} items ranked"
    reporter.table(f"{split}: {sizes}", ["", *columns], rows)
    reporter.say(content["protocol"])
    sample = content.get("sampled")
    if sample is not None and {"uni100", "all"} & set(parsed.metrics):
        rows = [[name, f"{value:.6f}"] for name, value in sample["metrics"].items()]
        reporter.table("uni100", ["", "model"], rows)
        reporter.say(sample["protocol"])
    for line in told(content.get("start", ())):
        reporter.say(line)
    cold = sentence(split, content, f"recall@{shown_cutoff(ks)}")
    if cold is not None:
        reporter.say(cold)


@dataclass(frozen=True)
class Similar:
    """Print the items that are nearest to given items by the cosine."""

    run: Positional[str]
    """Run folder."""
    items: tuple[str, ...]
    """Item ids."""
    k: Annotated[int, Range(1, INT32), tyro.conf.arg(aliases=("-k",))] = 10
    """Number of neighbours per item."""
    new_items: str | None = None
    """File that `jaxrec embed` wrote: also compare these items, which were not in training."""
    unknown: Literal["skip", "fail"] = "skip"
    """What to do with unknown items: skip and count them, or fail."""


def similar(args: list[str]) -> None:
    """Print the items nearest to given items."""
    parsed = parse(Similar, args, "jaxrec similar")
    from jaxrec.recommend import Recommender

    recommender = Recommender.load(parsed.run, new_items=parsed.new_items)
    own_process()
    frame = recommender.similar_items(parsed.items, k=parsed.k, unknown=parsed.unknown)
    print("item\tsimilar\trank\tscore")
    for row in frame.iter_rows():
        print(*row[:3], f"{row[3]:.4f}", sep="\t")


@dataclass(frozen=True)
class Embed:
    """Embed new items that were not in the training data."""

    run: Positional[str]
    """Run folder of two-tower, of gcmc or pinsage without model.ids, or of an item model with side
    information."""
    new_items: str
    """Table keyed by item id, with the same features as in training."""
    out: str
    """File to write: .parquet or .jsonl."""
    edges: str | None = None
    """Table with columns user and item: pairs of the new items with users of the run."""
    unknown: Literal["skip", "fail"] = "skip"
    """What to do with pairs of unknown users or items: skip and count them, or fail."""
    data: str | None = None
    """Path of the data, if it moved since training."""


def embed(args: list[str]) -> None:
    """Embed new items by their features and edges, and write the embeddings to a file."""
    parsed = parse(Embed, args, "jaxrec embed")
    if Path(parsed.out).suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{parsed.out}: the name must end in .parquet or .jsonl")
    from jaxrec.embedding import embed as embeddings
    from jaxrec.list_files import write

    own_process()
    frame = embeddings(
        parsed.run, parsed.new_items, edges=parsed.edges, data=parsed.data, unknown=parsed.unknown
    )
    write(frame, parsed.out)
    print(f"{parsed.out}: {len(frame):,} items")


@dataclass(frozen=True)
class Export:
    """Export embeddings and ids for other programs."""

    run: Positional[str]
    """Run folder."""
    to: str
    """Format: npz, parquet, safetensors, hub (with a model card); faiss, hnswlib, usearch
    (indexes); onnx, jax (ranking functions); onnx-towers (functions from features to embeddings);
    duckdb, lance, postgresql (tables); or a format that a plugin registers."""
    out: str
    """File or folder to write, or the address of the database for postgresql."""


def export(args: list[str]) -> None:
    """Export embeddings and ids for other programs."""
    parsed = parse(Export, args, "jaxrec export")
    from jaxrec.exporting import export as write

    lines: list[str] = []
    write(parsed.run, parsed.to, parsed.out, say=lines.append)
    print(*([] if parsed.to == "postgresql" else [parsed.out]), *lines, sep="\n")


@dataclass(frozen=True)
class Report:
    """Report one run, or compare several, on one HTML page."""

    runs: Positional[tuple[str, ...]]
    """Run folders."""
    out: str
    """HTML file to write."""
    titles: str | None = None
    """Table keyed by item id: its titles are shown instead of ids, and its categories colour the
    map of items. By default a table beside the data, such as movies.csv, is used."""
    item_map: Literal["pca", "umap"] = "pca"
    """Method of the map of items; umap needs the package umap-learn."""


def report(args: list[str]) -> None:
    """Report one or several runs on a self-contained HTML page."""
    parsed = parse(Report, args, "jaxrec report")
    if not parsed.runs:
        raise InputError("name at least one run folder: jaxrec report RUN --out report.html")
    from jaxrec.reporting.page import report as write

    runs = [Path(run) for run in parsed.runs]
    write(runs, Path(parsed.out), titles=parsed.titles, item_map=parsed.item_map)
    print(parsed.out)
