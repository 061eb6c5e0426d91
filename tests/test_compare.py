import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_run import trained, write_records

from jaxrec import significance
from jaxrec.cli import compare as command
from jaxrec.errors import InputError
from jaxrec.evaluation import per_user
from jaxrec.evaluation.run import evaluate
from jaxrec.reporting import run_groups
from jaxrec.reporting.plots import _css
from jaxrec.reporting.run_records import read_runs


def users(run: Path, metric: str, value: np.ndarray) -> None:
    """Give the run these values per user, and their mean as its result."""
    frame = pl.DataFrame({"user": [f"u{n:04}" for n in range(len(value))], metric: value})
    frame.write_parquet(run / per_user.NAME, metadata={"split": "test"})
    content = json.loads((run / "eval.json").read_text())
    content["metrics"][metric] = float(value.mean())
    (run / "eval.json").write_text(json.dumps(content))


def made(folder: Path, value: np.ndarray, *, dim: int = 16, seed: int = 0) -> Path:
    """Build a finished run of LightGCN with a width, a seed and the given recall per user."""
    run = write_records(folder)
    config = json.loads((run / "config.json").read_text())
    config["model"]["dim"], config["seed"], config["split"]["seed"] = dim, seed, 0
    (run / "config.json").write_text(json.dumps(config))
    shutil.copyfile(trained() / "split.npz", run / "split.npz")
    users(run, "recall@20", value)
    return run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Build three configurations with three seeds each; one is better, and two are equally good."""
    rng = np.random.default_rng(1)
    base = rng.binomial(5, 0.3, 1000) / 5
    found = []
    for dim, gain in ((16, 0.0), (32, 0.05), (64, 0.0)):
        for seed in range(3):
            value = np.clip(base + gain + rng.normal(0, 0.05, 1000), 0, 1)
            value += 0.3 - value.mean() + gain + 0.002 * (seed - 1)
            found.append(made(tmp_path / f"{dim}-{seed}", value, dim=dim, seed=seed))
    return found


@pytest.mark.long
def test_a_run_leaves_each_users_metrics_whose_means_are_its_result():
    split, frame = per_user.read(trained())
    content = json.loads((trained() / "eval.json").read_text())
    assert split == content["split"] == "test"
    assert frame.height == content["users"]
    for name in ("recall@20", "ndcg@10", "mrr@50"):
        assert frame[name].mean() == pytest.approx(content["metrics"][name], rel=1e-5)


@pytest.mark.long
def test_evaluate_writes_them_for_a_run_that_lacks_them(tmp_path):
    from made_run import CONFIG

    import jaxrec
    from jaxrec.data import synthetic

    data = synthetic.make(60, 40, 600, communities=2, seed=1)
    run = jaxrec.train(CONFIG, data=data, run=tmp_path / "run", quiet=True).folder
    before = pl.read_parquet(run / per_user.NAME)
    (run / per_user.NAME).unlink()
    with pytest.raises(InputError, match="--per-user"):
        per_user.read(run)
    evaluate(run, data=data, per_user=True)
    after = pl.read_parquet(run / per_user.NAME)
    assert after["user"].equals(before["user"])
    assert np.allclose(after["recall@20"], before["recall@20"])


def test_seeds_are_grouped_and_only_the_planted_difference_is_called_one(folders):
    found = run_groups.compare(read_runs(folders))
    assert [len(group.runs) for group in found.groups] == [3, 3, 3]
    assert found.groups[0].mean("test", "recall@20") == pytest.approx(0.3)
    assert found.groups[0].spread("test", "recall@20") == pytest.approx(0.002)
    verdicts = {(d.a, d.b): d.verdict for d in found.differences}
    assert list(verdicts.values()) == ["different", "no difference shown", "different"]
    assert all("model.dim" in group.label for group in found.groups)


def test_what_users_show_but_seeds_do_not_is_said(folders):
    """Make one seed of the better configuration far worse, so that only users show a difference."""
    _, frame = per_user.read(folders[3])
    users(folders[3], "recall@20", frame["recall@20"].to_numpy() - 0.1)
    first = run_groups.compare(read_runs(folders[:6])).differences[0]
    assert first.p["paired t"] < 0.05
    assert first.verdict == "within the variation over seeds"


def test_other_splits_data_and_protocols_are_refused(folders):
    def refused(change, words):
        run = folders[1]
        kept = {p: p.read_bytes() for p in run.iterdir() if p.is_file()}
        change(run)
        with pytest.raises(InputError, match=words):
            run_groups.compare(read_runs(folders[:2]))
        for path, content in kept.items():
            path.write_bytes(content)

    def rewrite(name, *keys, value):
        def change(run):
            content = json.loads((run / name).read_text())
            of = content
            for key in keys[:-1]:
                of = of[key]
            of[keys[-1]] = value
            (run / name).write_text(json.dumps(content))

        return change

    def other_split(run):
        arrays = dict(np.load(run / "split.npz"))
        arrays["pairs"] = arrays["pairs"] ^ np.uint64(1)
        np.savez(run / "split.npz", **arrays)

    refused(other_split, "different splits; train with `--split.seed 0`")
    refused(rewrite("env.json", "fingerprint", value="other"), "different data")
    refused(rewrite("config.json", "eval", "repeatable", value=True), "known items ranked")
    refused(rewrite("eval.json", "selected_on", value="test"), "parts for selection")
    refused(rewrite("config.json", "seed", value=0), "the same configuration and seed")

    def on_everything(run):
        rewrite("eval.json", "metrics", value={})(run)
        rewrite("eval.json", "validation", value={})(run)
        for part in ("validation", "test"):
            rewrite("env.json", "data", part, value=0)(run)

    refused(on_everything, "trained on all pairs, so no pairs are held out")
    refused(lambda run: (run / "eval.json").unlink(), "has not finished; `jaxrec resume")
    users(folders[3], "recall@20", np.zeros(3))
    with pytest.raises(InputError, match="ranked different users"):
        run_groups.compare(read_runs(folders[:4]))


def fold(folder: Path, dim: int, number: int, seed: int, users_of: range, value: float) -> Path:
    """Build a run of one of two folds, with users of its own and a recall around ``value``."""
    noise = np.random.default_rng(number).normal(0, 0.01, len(users_of))
    run = made(folder, value + noise - noise.mean(), dim=dim, seed=seed)
    config = json.loads((run / "config.json").read_text())
    config["split"] |= {"name": "folds", "folds": 2, "fold": number}
    (run / "config.json").write_text(json.dumps(config))
    path = run / per_user.NAME
    frame = pl.read_parquet(path).with_columns(user=pl.Series([f"u{n:04}" for n in users_of]))
    frame.write_parquet(path, metadata={"split": "test"})
    return run


def test_folds_are_one_group_and_each_of_their_users_counts_once(tmp_path):
    values = {16: (0.30, 0.40), 32: (0.33, 0.42)}
    folders = [
        fold(tmp_path / f"{dim}-{n}-{seed}", dim, n, seed, users_of, values[dim][n] + seed / 100)
        for dim in values
        for n, users_of in enumerate((range(60), range(40, 100)))
        for seed in (0, 1)
    ]
    found = run_groups.compare(read_runs(folders))
    assert [group.values("test", "recall@20") for group in found.groups] == [
        pytest.approx([0.305, 0.405]),
        pytest.approx([0.335, 0.425]),
    ]
    summary = found.groups[0].summary("test", "recall@20")
    expected = {"mean": 0.355, "sd": np.std([0.305, 0.405], ddof=1), "min": 0.305, "max": 0.405}
    assert summary == pytest.approx(expected)
    (difference,) = found.differences
    assert difference.users == 100
    # 40 users are in the first fold only, 20 in both and 40 in the second only.
    expected = -(40 * 0.03 + 20 * 0.025 + 40 * 0.02) / 100
    assert difference.mean == pytest.approx(expected)
    sizes = json.loads((folders[0] / "env.json").read_text())["data"]
    p = significance.corrected_t([-0.03, -0.02], sizes["test"] / sizes["train"])
    assert (difference.folds, difference.seeds) == (pytest.approx(p), None)
    assert difference.verdict == "within the variation over folds"
    with pytest.raises(InputError, match="only one of them has fold 1"):
        run_groups.compare(read_runs(folders[:4] + folders[4:6]))
    split = dict(np.load(folders[2] / "split.npz"))
    about = json.loads(str(split["about"])) | {"seed": 7}
    np.savez(folders[2] / "split.npz", pairs=split["pairs"], about=np.array(json.dumps(about)))
    with pytest.raises(InputError, match=r"different divisions into folds .*seed 0; .*seed 7"):
        run_groups.compare(read_runs(folders))


def test_the_command_prints_and_writes_the_comparison(folders, tmp_path, capsys):
    out = tmp_path / "compared.json"
    command([*map(str, folders), "--out", str(out)])
    told = capsys.readouterr().out
    assert "recall@20 on test" in told
    assert "no difference shown" in told
    written = json.loads(out.read_text())
    assert [group["sd"] for group in written["groups"]] == [pytest.approx(0.002)] * 3
    assert written["differences"][1]["verdict"] == "no difference shown"
    with pytest.raises(InputError, match="at least two"):
        command([str(folders[0])])
    with pytest.raises(InputError, match="has no recall@7"):
        command([*map(str, folders), "--metric", "recall@7"])


def test_fifty_series_have_fifty_colours():
    assert len({_css(n) for n in range(50)}) == 50
