"""Test blocks drawn on the host: equal to those of the device, with waiting times in the log."""

import json

import numpy as np
import pytest

import jaxrec
from jaxrec.config import Config, from_dict
from jaxrec.data import synthetic
from jaxrec.data.split import Splits
from jaxrec.training.problem import Problem
from jaxrec.training.run import Run

HOW = ("device", "host")


def config(**model) -> Config:
    parts = {
        "model": {"name": "pinsage", "dim": 8, "layers": 2, "fan_outs": [4, 3], **model},
        "train": {"epochs": 2, "batch_size": 64},
        "eval": {"k": [20], "every": 1},
    }
    return from_dict(parts)


def trained(folder, **model) -> Run:
    data = synthetic.make(60, 50, 700, communities=4, seed=3)
    return jaxrec.train(config(**model), data=data, run=folder, quiet=True)


@pytest.mark.long
@pytest.mark.parametrize("neighbors", ["importance", "uniform"])
def test_blocks_drawn_on_the_host_give_the_bits_of_blocks_drawn_on_the_device(neighbors, tmp_path):
    runs = [trained(tmp_path / where, neighbors=neighbors, sampling=where) for where in HOW]
    lines = [(run.folder / "metrics.jsonl").read_bytes() for run in runs]
    assert lines[0] == lines[1]
    tables = [np.load(run.folder / "parameters.npz") for run in runs]
    assert tables[0].files == tables[1].files
    for name in tables[0].files:
        np.testing.assert_array_equal(tables[0][name], tables[1][name])
    timing = [
        [json.loads(line) for line in (run.folder / "timing.jsonl").read_text().splitlines()]
        for run in runs
    ]
    shares = [[line["wait_share"] for line in lines if "wait_share" in line] for lines in timing]
    assert shares[0] == []
    assert len(shares[1]) >= 2
    assert all(0 <= share <= 1 for share in shares[1])


def test_where_the_graph_fits_the_device_it_is_drawn_there():
    data = synthetic.make(60, 50, 700, communities=4, seed=3)
    nothing = data.take(np.zeros(0, int))
    splits = Splits(data, nothing, nothing)
    assert not Problem.build(config(), splits).on_host
    assert Problem.build(config(sampling="host"), splits).on_host
