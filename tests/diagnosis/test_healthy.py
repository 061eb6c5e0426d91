"""Test that the doctor finds and warns of nothing in healthy runs that are no presets.

A few tiny runs are trained here; `python -m bench doctor-healthy` trains several dozen.
"""

import pytest

import jaxrec
from jaxrec.cli import _run
from jaxrec.cli.train import configured
from jaxrec.data import synthetic
from jaxrec.diagnosis.diagnose import diagnose

FAST = "--optim.learning-rate 0.02 --train.batch-size 128 --train.epochs 10 --train.l2 0.02"
HEALTHY = {
    "softmax over all items": f"mf --loss.name softmax --negatives.name all {FAST}",
    "in-batch softmax": f"mf --loss.name softmax --negatives.name in-batch {FAST}",
    "the hardest of a shared set": "lightgcn --loss.name softmax --negatives.name shared "
    f"--negatives.count 32 --negatives.pick hardest {FAST}",
    "cosines over 0.1": "mf --model.score cosine --loss.temperature 0.1 --loss.name softmax "
    f"--negatives.name all {FAST}",
    "a single epoch": "lightgcn --train.epochs 1 --train.batch-size 256",
    "five epochs by default": "lightgcn --train.epochs 5 --train.batch-size 128",
    "an evaluation every five steps": "mf --train.steps 150 --eval.every 5 "
    "--optim.learning-rate 0.02 --train.batch-size 128 --train.l2 0.02 --checkpoint.every 0",
}
SICK = {
    "learning-rate-low": "mf --loss.name softmax --negatives.name shared --negatives.count 32 "
    "--negatives.pick hardest --optim.learning-rate 1e-6 --train.batch-size 128 --train.epochs 4",
    "learning-rate-high": "mf --negatives.name all --optim.learning-rate 2 "
    "--train.batch-size 128 --train.epochs 6",
}


def _trained(options: str, tmp_path, monkeypatch) -> tuple[jaxrec.Run, list[str]]:
    """Train a run, and return it with what the doctor said meanwhile."""
    said: list[str] = []
    monkeypatch.setattr("jaxrec.log.Reporter.say", lambda self, text: said.append(text))
    preset, *rest = options.split()
    config = configured([preset, "--model.dim", "16", *rest]).config
    data = synthetic.make(200, 120, 4000, communities=4, seed=1)
    run = jaxrec.train(config, data=data, run=tmp_path / "run")
    return run, [line for line in said if line.startswith("doctor: ")]


@pytest.mark.long
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_called_healthy(name, tmp_path, monkeypatch):
    run, warned = _trained(HEALTHY[name], tmp_path, monkeypatch)
    assert diagnose(run.folder).findings == []
    assert warned == []
    assert _run(["doctor", str(run.folder)]) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", SICK)
def test_the_same_kinds_of_run_are_found_sick(name, tmp_path, monkeypatch):
    run, warned = _trained(SICK[name], tmp_path, monkeypatch)
    assert diagnose(run.folder).findings[0].name == name
    assert warned
    assert _run(["doctor", str(run.folder)]) == 3
