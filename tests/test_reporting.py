import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_run import evaluation, write_item_run, write_records

from jaxrec.data import synthetic_items
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.errors import InputError
from jaxrec.evaluation.run import evaluate
from jaxrec.reporting import page as page_module
from jaxrec.reporting.page import report
from jaxrec.reporting.run_records import read_runs
from jaxrec.runfolder import read_metrics

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """A parsed page: its elements, its visible text, and the exact values of rounded numbers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.stack == [], "elements left open"
        self.exact = {attrs["title"] for _, attrs in self.elements if "title" in attrs}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "svg"} & set(self.stack):
            self.text.append(data)

    def has(self, words: str) -> bool:
        return words in " ".join("".join(self.text).split())

    def labels(self, tag: str) -> list[str]:
        return [a["aria-label"] or "" for t, a in self.elements if t == tag and "aria-label" in a]


def figures(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [f for inner in value.values() for f in figures(inner)]
    return [value] if isinstance(value, float) else []


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def config(run: Path, **sections: dict[str, Any]) -> None:
    path = run / "config.json"
    values = json.loads(path.read_text())
    for name, fields in sections.items():
        values[name] |= fields
    path.write_text(json.dumps(values))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_records(tmp_path / "lightgcn-1")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the report of the run as it was trained, written once for all tests that read it."""
    folder = tmp_path_factory.mktemp("page")
    return Page(report([write_records(folder / "lightgcn-1")], folder / "report.html"))


def test_one_run_tells_everything(run: Path, page: Page) -> None:
    results = evaluation()
    results.pop("false_negative_rate")
    assert {repr(f) for f in figures(results)} <= page.exact
    rates = evaluation()["false_negative_rate"]
    assert page.has(f"{100 * rates['train']:.2g} % of the sampled negatives were train positives.")
    assert page.has(f"{100 * rates['validation']:.2g} % of the sampled negatives were validation")
    assert page.has("Results by group on test")
    protocol = evaluation()["protocol"]
    assert page.has(f"{protocol[:1].upper()}{protocol[1:]}")
    env = json.loads((run / "env.json").read_text())
    told = f"{env['data']['train']:,}", env["device"], f"jax {env['versions']['jax']}"
    for words in (*told, env["fingerprint"], env["command"], "batch_size"):
        assert page.has(words), words
    popular = results["baselines"]["popularity"]["recall@20"]
    assert page.has(f"{results['metrics']['recall@20'] / popular:.2f}× popularity")
    assert 'role="note"' not in page.source


PLOTS = [
    *("The model beside its baselines", "recall@20", "Loss", "ndcg@20", "Throughput"),
    *("Cosines", "Effective rank", "Lengths", "Embedding table", "Lists", "Recommended items"),
    *("Correctly ranked pairs", "Saturated pairs", "Gradients", "Negatives"),
    *("recall@20 by item popularity", "recall@20 by user activity"),
]


def test_each_plot_draws_what_its_title_says(page: Page) -> None:
    """Compare the curves' names, and the unit that they share."""
    drawn = {}
    for label in page.labels("svg"):
        title, _, rest = label.partition(": ")
        unit, *ends = rest.split("; ")
        drawn[title] = unit.partition(" over ")[0], {end.partition(" from ")[0] for end in ends}
    assert drawn["Loss"] == ("mean loss per pair, with L2", {"loss"})
    assert drawn["Gradients"] == ("norm of the step's gradient", {"gradient", "fed gradient"})
    shares = {"false negatives", "identical inputs"}
    assert drawn["Negatives"] == ("share of the negatives", shares)
    assert drawn["Lengths"][1] == {"user norm", "item norm"}
    of_pairs = "share of pairs above a random item", {"train auc", "validation auc"}
    assert drawn["Correctly ranked pairs"] == of_pairs
    splits = {"validation", "test", "train", "popularity"}
    assert drawn["recall@20"] == ("recall@20 (share of held-out items)", splits)
    beside = {f"{name} {m['recall@20']:.4g}" for name, m in evaluation()["baselines"].items()}
    assert beside < drawn["The model beside its baselines"][1]


def test_a_resumed_run_counts_all_its_processes(run: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()]
    again = [line | {"seconds": line["seconds"] / 2} for line in lines]
    again[0]["event"] = "resumed"
    (run / "timing.jsonl").write_text("".join(json.dumps(x) + "\n" for x in (*lines, *again)))
    (records,) = read_runs([run])
    assert records.seconds == pytest.approx(1.5 * lines[-1]["seconds"])


def test_plots_and_tables_can_be_read_without_eyes(run: Path, page: Page) -> None:
    labels = page.labels("svg")
    assert [label.partition(":")[0] for label in labels] == PLOTS
    lines = read_metrics(run / "metrics.jsonl")
    loss = [r["loss"] for r in lines if r["split"] == "train"]
    (drawn,) = [label for label in labels if label.startswith("Loss")]
    assert drawn.endswith(f"; loss from {loss[0]:.4g} to {loss[-1]:.4g}")
    hidden = [a for t, a in page.elements if t == "svg" and "aria-hidden" in a]
    assert len(hidden) + len(labels) == sum(t == "svg" for t, _ in page.elements)
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    tables = sum(tag == "table" for tag, _ in page.elements)
    assert tables == sum(tag == "caption" for tag, _ in page.elements) > 5


def test_a_narrow_page_names_the_column_before_each_cell(page: Page) -> None:
    """Each row of a table that does not fit becomes a block whose cells show their headings."""
    stacked = 0
    for table in re.findall(r"<table.*?</table>", page.source):
        head = re.findall(r'<th scope="col">(.*?)</th>', table)
        labels = re.findall(r'<td data-label="(.*?)">', table)
        assert labels == head[1:] * table.count('<tr><th scope="row')
        assert ("stacks" in table[:40]) == (len(head) > 3)
        stacked += len(head) > 3
    assert stacked >= 4


# Linear RGB as people without one kind of cones see it (Machado et al. 2009).
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.969]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


def _lab(linear: np.ndarray) -> np.ndarray:
    rows = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(rows) @ linear.clip(0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_series_are_told_apart_by_the_colour_blind(scheme: int) -> None:
    style = Path(page_module.__file__).with_name("style.css").read_text()
    found = re.findall(r"--series-\d: #(\w{6})", style)
    assert len(found) == 16
    colors = np.array([list(bytes.fromhex(c)) for c in found[8 * scheme :][:8]]) / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    for name, matrix in SIGHTS.items():
        lab = np.array([_lab(np.array(matrix) @ color) for color in linear])
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(8, 1)]
        assert apart.min() > 20, name  # 2.3 is just noticeable side by side


def test_nothing_is_fetched(page: Page) -> None:
    assert not re.search(r"https?://|url\((?!#)|@import", page.source)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    for _, attrs in page.elements:
        assert all(attrs[name].startswith("#") for name in ("href", "src") if name in attrs)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    referred = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", page.source))
    assert referred <= set(ids)
    assert len(ids) == len(set(ids))


def test_both_schemes_and_no_fixed_colour_in_a_plot(page: Page) -> None:
    assert "prefers-color-scheme: dark" in page.source
    drawn = page.source.split("</style>", 1)[1]
    assert not re.search(r"(?:stroke|fill): #(?!0{6})", drawn)
    assert "currentColor" in drawn


@pytest.mark.long
def test_strings_of_the_data_are_escaped(run: Path, tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"&"
    rewrite(run / "env.json", data={"name": evil, "users": 3, "notes": {evil: 1}}, command=evil)
    config(run, model={"name": evil})
    rewrite(run / "config.json", preset=evil, data=evil)
    rewrite(run / "eval.json", protocol=evil)
    page = Page(report([run, run], tmp_path / "report.html"))
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.has(evil)


@pytest.mark.long
def test_the_same_report_twice_has_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first = report([run], tmp_path / "a.html").read_bytes()
    assert report([run], tmp_path / "b.html").read_bytes() == first


def test_selection_on_test_is_noticed(run: Path, tmp_path: Path) -> None:
    rewrite(run / "eval.json", selected_on="test")
    page = Page(report([run], tmp_path / "report.html"))
    assert page.has("Selected on test.")
    assert 'role="note"' in page.source


@pytest.mark.long
def test_a_model_that_loses_to_popularity_is_noticed(run: Path, tmp_path: Path) -> None:
    metrics = evaluation()["metrics"] | {"recall@20": 0.01}
    rewrite(run / "eval.json", metrics=metrics)
    page = Page(report([run], tmp_path / "report.html"))
    assert page.has("recall@20 on test is 0.0100")


def test_an_unfinished_run_shows_what_there_is(run: Path, tmp_path: Path) -> None:
    for name in ("eval.json", "slices.json", "timing.jsonl"):
        (run / name).unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1300, "spl')  # as if killed in the middle of a line
    page = Page(report([run], tmp_path / "report.html"))
    assert page.has("Not finished.")
    last = "Throughput", PLOTS[0]
    unfinished = [title for title in PLOTS if title not in last and " by " not in title]
    assert [label.split(":")[0] for label in page.labels("svg")] == unfinished
    for name in ("env.json", "metrics.jsonl"):
        (run / name).unlink()
    page = Page(report([run], tmp_path / "report.html"))
    assert page.labels("svg") == []
    assert page.has("Configuration")


@pytest.mark.long
def test_validation_alone(run: Path, tmp_path: Path) -> None:
    results = evaluation()
    only = results["validation"] | {"split": "validation", "selected_on": "validation"}
    (run / "eval.json").write_text(json.dumps(only))
    page = Page(report([run], tmp_path / "report.html"))
    assert page.has("recall@20, validation")
    assert not page.has("test (")


@pytest.mark.long
def test_refit_has_curves_of_its_own(run: Path, tmp_path: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        for step in (100, 200):
            record = {"step": step, "split": "train", "phase": "refit", "loss": 9.5 + step}
            file.write(json.dumps(record) + "\n")
    page = Page(report([run], tmp_path / "report.html"))
    (loss,) = [label for label in page.labels("svg") if label.startswith("Loss")]
    assert "loss, refit from 109.5 to 209.5" in loss


@pytest.mark.long
def test_several_runs_are_compared(run: Path, tmp_path: Path) -> None:
    other = write_records(tmp_path / "mf-1")
    config(other, model={"name": "mf", "layers": 0})
    worse = {name: 0.9 * value for name, value in evaluation()["metrics"].items()}
    worse["map@10"] = 0.5
    validation = {name: 0.9 * v for name, v in evaluation()["validation"]["metrics"].items()}
    others = {"validation": {**evaluation()["validation"], "metrics": validation}}
    rewrite(other / "eval.json", metrics=worse, selected_on="test", **others)
    page = Page(report([run, other], tmp_path / "report.html"))
    assert page.has("2 runs compared")
    assert page.has("mf-1 (selected on test)")
    best = re.findall(r'<strong class="best" title="best"><span title="([^"]+)"', page.source)
    good = evaluation()["validation"]["metrics"]
    # No best value is marked on test, since choosing by test would invalidate its results.
    assert set(map(float, best)) == set(good.values())
    assert page.has("The differences were not tested.")
    differing = page.source.split("Differences between the configurations")[1].split("</table>")[0]
    assert re.findall(r'scope="row">([^<]+)', differing) == ["model.name", "model.layers"]
    assert page.labels("svg")[0].startswith("Loss of all runs")
    assert len(page.labels("svg")) == 3 + 2 * len(PLOTS)
    assert not page.has("Different data.")


@pytest.mark.long
def test_lower_is_better_for_errors(run: Path, tmp_path: Path) -> None:
    other = write_records(tmp_path / "other")
    rewrite(run / "eval.json", validation={"metrics": {"rmse": 0.9, "auc": 0.7}})
    rewrite(other / "eval.json", validation={"metrics": {"rmse": 0.8, "auc": 0.6}})
    source = report([run, other], tmp_path / "report.html").read_text()
    best = re.findall(r'<strong class="best" title="best"><span title="([^"]+)"', source)
    assert sorted(best) == ["0.7", "0.8"]


@pytest.mark.long
def test_runs_on_other_data_and_of_one_name(run: Path, tmp_path: Path) -> None:
    other = write_records(tmp_path / "again" / "lightgcn-1", fingerprint="cd" * 32)
    page = Page(report([run, other], tmp_path / "report.html"))
    assert page.has("Different data.")
    assert page.has(str(run))
    assert page.has(str(other))


def test_plain_errors(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report.html"
    with pytest.raises(InputError, match="not a run folder"):
        report([tmp_path / "none"], out)
    with pytest.raises(InputError, match="needs at least one run folder"):
        report([], out)
    (run / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(InputError, match=r"metrics.jsonl:2: not a JSON record"):
        report([run], out)
    for line in ('{"step": 1}', '{"step": "1", "split": "train"}', '{"step": 1, "split": [2]}'):
        (run / "metrics.jsonl").write_text(f"{line}\n")
        with pytest.raises(InputError, match=r"metrics.jsonl:1: not a record of a step"):
            report([run], out)
    (run / "metrics.jsonl").write_text("")
    (run / "eval.json").write_text('{"metrics": [1], "split": "test"}')
    with pytest.raises(InputError, match="has an invalid value"):
        report([run], out)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'jaxrec\[report\]'"):
        report([run], out)
    assert not out.exists()


@pytest.fixture
def item_run(tmp_path: Path) -> Path:
    """Return an evaluated run of an item model, with a few records of its training."""
    graph = synthetic_items.make(60, 150, communities=3, missing=0.2)
    community = synthetic_items.planted(60, communities=3).item_community
    run = write_item_run(tmp_path / "skipgram-1", graph, np.eye(3)[community])
    evaluate(run, ks=(5,))
    records = []
    for step in (10, 20, 30):
        at = {"step": step, "epoch": step / 10, "phase": "search"}
        records.append(at | {"split": "train", "loss": 3 - step / 20})
        good = {"auc": 0.6 + step / 100, "average_precision": 0.5 + step / 100, "recall@5": 0.1}
        records.append(at | {"split": "validation"} | good)
    text = "".join(json.dumps(line) + "\n" for line in records)
    (run / "metrics.jsonl").write_text(text)
    return run


def test_a_run_of_items_shows_its_curves_with_the_threshold(item_run: Path, tmp_path: Path) -> None:
    page = Page(report([item_run], tmp_path / "report.html"))
    content = json.loads((item_run / "eval.json").read_text())
    assert page.has("skipgram, width 128, preset skipgram, seed 0; trained on")
    assert page.has("60 items, 99 train pairs.")
    assert not page.has("users")
    assert page.has(f"test (100 pairs, {content['users']} items ranked)")
    assert {repr(value) for value in content["metrics"].values()} <= page.exact
    assert page.has("Classified pairs on test")
    assert page.has("best F1")
    drawn = page.labels("svg")
    for words in (
        *("ROC curve: true positive rate over false positive rate", "; threshold from"),
        *("Precision and recall: precision over recall", "auc: auc (share of pairs) over step"),
        "average_precision: average_precision (0 to 1) over step",
        "recall@5: recall@5 (share of held-out items) over step",
        "Item map: principal component 2",
    ):
        assert any(words in label for label in drawn), words
    assert ">epoch<" in page.source


@pytest.mark.long
def test_runs_that_count_walks_show_their_speed(run: Path, item_run: Path, tmp_path: Path) -> None:
    timing = item_run / "timing.jsonl"
    lines = [{"step": step, "seconds": step / 4, "walks_per_second": 4096.0} for step in (4, 8)]
    timing.write_text("".join(json.dumps(line) + "\n" for line in lines))
    alone = Page(report([item_run], tmp_path / "items.html"))
    assert alone.has("walks per second")
    assert alone.has("4,096")
    assert any(label.startswith("Throughput") for label in alone.labels("svg"))
    both = Page(report([run, item_run], tmp_path / "both.html"))
    assert any("pairs or walks per second" in label for label in both.labels("svg"))


@pytest.mark.long
def test_runs_of_items_are_compared(item_run: Path, tmp_path: Path) -> None:
    graph = ItemGraph.load(tmp_path / "graph")
    noise = np.random.default_rng(0).normal(size=(60, 3))
    other = write_item_run(tmp_path / "noise", graph, noise)
    evaluate(other, ks=(5,))
    page = Page(report([item_run, other], tmp_path / "report.html"))
    drawn = page.labels("svg")
    assert any(
        "ROC curve of all runs" in label and "skipgram-1 from" in label and "noise from" in label
        for label in drawn
    )
    assert any("Precision and recall of all runs" in label for label in drawn)
    assert page.has("Results on test")


def test_damaged_curves_are_refused(item_run: Path, tmp_path: Path) -> None:
    (item_run / "curves.npz").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"curves\.npz: damaged"):
        report([item_run], tmp_path / "report.html")
