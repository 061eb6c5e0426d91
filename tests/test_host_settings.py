"""Test that jaxrec does not change the settings of a process that imports it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PROGRAM = """
import dataclasses, logging, os, random, resource, signal, sys, threading, warnings

import jax
import matplotlib
import numpy as np
import orbax.checkpoint
import polars as pl
import rich, scipy.sparse, tyro
from flax import nnx

# A host with habits of its own.
for name in ("absl", "asyncio", "concurrent.futures", "jax", "host"):
    logging.getLogger(name).setLevel(logging.ERROR)
signal.signal(signal.SIGTERM, lambda number, frame: None)
warnings.simplefilter("always")


def state():
    found = {}
    for name, log in [("", logging.root), *logging.root.manager.loggerDict.items()]:
        if isinstance(log, logging.Logger):
            parts = log.level, list(log.handlers), list(log.filters), log.propagate, log.disabled
            found["logger " + name] = parts
    found["jax"] = {name: repr(value) for name, value in jax.config.values.items()}
    found["matplotlib"] = dict(matplotlib.rcParams)
    found["polars"] = pl.Config.state()
    found["numpy"] = np.geterr(), np.get_printoptions(), str(np.random.get_state())
    found["random"] = random.getstate()
    found["warnings"] = list(warnings.filters), warnings.showwarning
    found["environment"] = dict(os.environ)
    found["signals"] = {number: signal.getsignal(number) for number in signal.valid_signals()}
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    found["wakeup"] = descriptor
    found["hooks"] = sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook
    found["threads"] = {thread.name for thread in threading.enumerate()}
    found["limits"] = resource.getrlimit(resource.RLIMIT_NOFILE), sys.getrecursionlimit()
    found["folder"] = os.getcwd()
    return found


def same(before, what):
    after = state()
    for name in before:
        assert before[name] == after[name], f"{what}: {name}: {before[name]} -> {after[name]}"


before = state()
import jaxrec
same(before, "import")

from jaxrec.data import synthetic

data = synthetic.make(80, 60, 1000, seed=1)
preset = jaxrec.preset("mf")
model = dataclasses.replace(preset.model, dim=8)
train = dataclasses.replace(preset.train, epochs=1, batch_size=64)
config = dataclasses.replace(preset, model=model, train=train)
run = jaxrec.train(config, data=data, run="run", quiet=True)
same(before, "train")
jaxrec.evaluate("run", data=data)
same(before, "evaluate")
recommender = jaxrec.Recommender.load("run")
recommender.recommend([str(recommender.user_ids[0])], k=3)
recommender.similar_items([str(recommender.item_ids[0])], k=3)
same(before, "recommend")
jaxrec.doctor("run")
jaxrec.report(["run"], "report.html")
jaxrec.export("run", "npz", "out.npz")
same(before, "reading a run")
try:
    jaxrec.train(dataclasses.replace(config, data="nowhere"), run="other", quiet=True)
except jaxrec.InputError:
    same(before, "a refusal")
print("the same")
"""


@pytest.mark.long
def test_a_host_process_is_left_as_it_was(tmp_path):
    home = tmp_path / "home"
    ours = ("JAX_", "XLA_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home)}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # to halve the time to compile
    path = [str(HERE.parent), *filter(None, [env.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(path)
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr
    assert not (home / "jaxrec").exists()


@pytest.mark.long
def test_a_host_that_sets_up_logging_later_is_heard(tmp_path):
    program = """
import logging, random

drawn = random.getstate()
import jaxrec
from jaxrec.config import ModelConfig, TrainConfig
from jaxrec.data import synthetic

config = jaxrec.Config(
    model=ModelConfig("mf", dim=4, layers=0),
    train=TrainConfig(epochs=1, batch_size=64),
)
jaxrec.train(config, data=synthetic.make(40, 30, 250, seed=1), run="run", quiet=True)
jaxrec.embed, jaxrec.evaluate, jaxrec.Recommender.load("run").recommend_all()
print(logging.root.handlers, random.getstate() == drawn)
"""
    path = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout == "[] True\n", done.stderr
