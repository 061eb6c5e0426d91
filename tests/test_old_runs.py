"""Test that run folders of earlier commits can still be reported, ranked and resumed.

``old_runs.tar.xz`` holds a data set and two runs on it, without their reports and later
checkpoints. Commit b1dfdf5, which saved no split, wrote ``earlier``; commit 7d67228 wrote
``later``.
"""

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxrec
from jaxrec import config as configs
from jaxrec.data.dataset import Dataset
from jaxrec.training.task import UserTask

ARCHIVE = Path(__file__).with_name("old_runs.tar.xz")
RUNS = pytest.mark.parametrize("name", ["earlier", "later"])
RESULTS = ("eval.json", "embeddings.npz", "parameters.npz", "seen.npz", "slices.json")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Unpack the archive, and set the path of the data in each run's config.json."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    for run in ("earlier", "later"):
        path = tmp_path / run / "config.json"
        kept = json.loads(path.read_text())
        path.write_text(json.dumps(kept | {"data": str(tmp_path / "data")}))
    return tmp_path


def stop_at_checkpoint(run: Path) -> dict[str, np.ndarray]:
    """Remove what the run wrote after its one checkpoint, and return its final parameters."""
    with np.load(run / "parameters.npz") as stored:
        parameters = dict(stored)
    for name in RESULTS:
        (run / name).unlink()
    return parameters


@RUNS
def test_it_is_evaluated_to_what_its_commit_found(home: Path, name: str) -> None:
    run = home / name
    kept = json.loads((run / "eval.json").read_text())
    found = jaxrec.evaluate(run, "test", tuple(configs.load(run / "config.json").eval.k))
    assert found["metrics"] == pytest.approx(kept["metrics"], rel=1e-5)
    popularity = kept["baselines"]["popularity"]
    assert found["baselines"]["popularity"] == pytest.approx(popularity, rel=1e-5)


@RUNS
def test_it_recommends_what_is_not_known(home: Path, name: str) -> None:
    run = home / name
    rec = jaxrec.Recommender.load(run)
    with np.load(run / "embeddings.npz") as stored, np.load(run / "seen.npz") as seen:
        user, score_I = str(stored["user_ids"][3]), stored["item"] @ stored["user"][3]
        known = [seen["indices"][slice(*seen["indptr"][3:5])]]
        if "test_indptr" in seen:
            known.append(seen["test_indices"][slice(*seen["test_indptr"][3:5])])
        score_I[np.concatenate(known)] = -np.inf
        wanted = stored["item_ids"][np.argsort(-score_I, kind="stable")[:5]].astype(str)
    assert rec.recommend(user, k=5)["item"].to_list() == wanted.tolist()


@pytest.mark.long_but("earlier")
@RUNS
def test_it_is_exported_and_reported(home: Path, name: str) -> None:
    jaxrec.export(home / name, "npz", home / "out.npz")
    with np.load(home / "out.npz") as out, np.load(home / name / "embeddings.npz") as stored:
        np.testing.assert_array_equal(out["item"], stored["item"])
    page = jaxrec.report([home / name], home / "report.html").read_text()
    kept = json.loads((home / name / "eval.json").read_text())
    assert f"{kept['metrics']['recall@20']:.4f}" in page


@RUNS
def test_once_finished_it_stays_as_it_is(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / name / "report.html").touch()  # the archive leaves it out
    before = (home / name / "metrics.jsonl").read_bytes()
    jaxrec.resume(home / name)
    assert "the run has already finished, so there is nothing to train" in capsys.readouterr().out
    assert (home / name / "metrics.jsonl").read_bytes() == before


@pytest.mark.long_but("later")
@RUNS
def test_it_goes_on_from_its_checkpoint_to_the_same_parameters(home: Path, name: str) -> None:
    run = home / name
    wanted = stop_at_checkpoint(run)
    jaxrec.resume(run, quiet=True)
    with np.load(run / "parameters.npz") as stored:
        assert set(stored) == set(wanted)
        for name, array in wanted.items():
            np.testing.assert_allclose(stored[name], array, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "earlier",
            "the data is split anew (it has no stored split: it is an old run, or a run on data in "
            "parts",
        ),
        (
            "later",
            "the split of later is continued: 0 of 26 validation pairs and 0 of 48 test pairs "
            "were in the training data of later",
        ),
    ],
)
def test_a_start_from_it_says_what_is_known_of_the_test_pairs(
    home: Path, name: str, said: str
) -> None:
    config = configs.load(home / name / "config.json")
    begun = replace(config, warm_start=str(home / name), seed=1)
    told = UserTask.of(begun, Dataset.load(home / "data")).describe()
    assert any(line.startswith(said) for line in told), told
