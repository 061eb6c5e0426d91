"""Test plugins: a toy of each kind is trained, resumed, evaluated and served."""

import ast
import dataclasses
import importlib
import json
import math
import shutil
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from processes import process

import jaxrec
from jaxrec import losses, registry
from jaxrec.config import Config, EvalConfig, ModelConfig, NegativesConfig, OptimConfig, TrainConfig
from jaxrec.data import formats, synthetic
from jaxrec.errors import InputError
from jaxrec.models import Encoder

PACKAGE = Path(jaxrec.__file__).parent
SCRIPTS = Path(__file__).parents[1] / "scripts"
OWN = ("--model.name", "attention-lightgcn", "--model.options", "sharpness=2.0")
OWN += ("--loss.name", "focal", "--negatives.name", "mixed", "--negatives.count", "2")
OWN += ("--eval.k", "5", "--eval.metric", "first_hit@5")
SHORT = ("--train.epochs", "2", "--model.dim", "8", "--model.layers", "1")
DATA = synthetic.make(60, 40, 600, seed=1)
CONFIG = Config(
    model=ModelConfig(dim=8, layers=1),
    negatives=NegativesConfig(count=2),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=3, batch_size=64),
    eval=EvalConfig(k=(5, 20)),
)


def _contents() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in PACKAGE.rglob("*.py")}


BEFORE = _contents()


class Neighbours(Encoder):
    """The mean of each node's neighbours: a useful model in ten lines."""

    def __init__(self, sizes, config, rngs, *, own: float = 1.0):
        shape = (sizes.n_nodes, config.dim)
        self.embedding = nnx.Param(0.1 * jax.random.normal(rngs.params(), shape))
        self.own = own

    def embed(self, graph, key=None):
        x = self.embedding[...]
        count = jnp.maximum(graph.degree_N, 1)[:, None]
        sent = jax.ops.segment_sum(x[graph.senders], graph.receivers, x.shape[0])
        return self.own * x + sent / count


@pytest.fixture(scope="module")
def interactions(tmp_path_factory):
    """Write a file in the format of the worked example."""
    path = tmp_path_factory.mktemp("data") / "shop.arrows"
    names = [
        (DATA.user_ids[u], DATA.item_ids[i]) for u, i in zip(DATA.user, DATA.item, strict=True)
    ]
    path.write_text("".join(f"{user} -> {item}\n" for user, item in names))
    return path


def command(*args, folder: Path, reports: bool = False):
    return process("-m", "jaxrec", *args, cwd=folder, reports=reports, quick=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, interactions):
    """Return a folder with the plugin and a run that uses all five kinds, by the command line."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(SCRIPTS / "own_parts.py", folder)
    read = command(
        *("data", "import", interactions, "--format", "arrows", "--plugin", "own_parts"),
        *("--out", "shop"),
        folder=folder,
    )
    assert read.returncode == 0, read.stderr
    made = command(
        *("train", "lightgcn", "--plugin", "own_parts", "--data", "shop", "--run", "run"),
        *(*SHORT, *OWN),
        folder=folder,
        reports=True,
    )
    assert made.returncode == 0, made.stderr
    return folder


def test_the_worked_example_trains_and_config_json_tells_the_truth(trained):
    config = json.loads((trained / "run" / "config.json").read_text())
    assert config["model"]["name"] == "attention-lightgcn"
    assert config["model"]["options"] == ["sharpness=2.0"]
    assert (config["loss"]["name"], config["negatives"]["name"]) == ("focal", "mixed")
    log = (trained / "run" / "metrics.jsonl").read_text()
    records = [json.loads(line) for line in log.splitlines()]
    validation = [r for r in records if r["split"] == "validation"]
    assert all(0 <= r["first_hit@5"] <= r["hit_rate@5"] for r in validation)
    assert validation
    found = json.loads((trained / "run" / "eval.json").read_text())
    assert "first_hit@5" in found["metrics"]
    assert (trained / "run" / "report.html").is_file()


@pytest.mark.long
def test_what_reads_embeddings_needs_no_plugin(trained):
    shutil.copytree(trained / "run", trained / "read")
    for args in (
        ("evaluate", "read"),
        ("recommend", "read", "--out", "lists.csv"),
        ("similar", "read", "--items", str(DATA.item_ids[0])),
        ("export", "read", "--to", "npz", "--out", "out.npz"),
        ("report", "read", "--out", "report.html"),
    ):
        done = command(*args, folder=trained)
        assert done.returncode == 0, (args, done.stderr)


@pytest.mark.long
def test_training_on_needs_the_plugin_and_gives_the_same_bits(trained):
    whole, run = trained / "run", trained / "again"
    shutil.copytree(whole, run)
    for name in ("eval.json", "embeddings.npz"):
        (run / name).unlink()
    bare = command("resume", "again", folder=trained)
    assert (bare.returncode, bare.stderr.count("\n")) == (2, 1), bare.stderr
    assert "attention-lightgcn" in bare.stderr
    assert "--plugin" in bare.stderr
    done = command("resume", "again", "--plugin", "own_parts", folder=trained)
    assert done.returncode == 0, done.stderr
    with np.load(whole / "embeddings.npz") as old, np.load(run / "embeddings.npz") as new:
        assert all(np.array_equal(old[name], new[name]) for name in old.files)
    repeat = ("train", "--config", "run/config.json", "--run", "repeat")
    assert command(*repeat, folder=trained).returncode == 2
    done = command(*repeat, "--plugin", "own_parts", folder=trained)
    assert done.returncode == 0, done.stderr
    assert (trained / "repeat" / "eval.json").read_bytes() == (whole / "eval.json").read_bytes()


@pytest.mark.long
def test_a_class_given_in_python_trains_and_resumes_under_its_name(tmp_path, registries):
    own = partial(Neighbours, own=0.5)
    run = jaxrec.train(CONFIG, data=DATA, model=own, run=tmp_path / "run", quiet=True)
    stored = json.loads((run.folder / "config.json").read_text())["model"]
    assert stored["name"] == f"{__name__}:Neighbours"
    assert stored["options"] == ["own=0.5"]
    assert run.metrics["recall@20"] > 0
    first = np.load(run.folder / "embeddings.npz")["user"]
    (run.folder / "eval.json").unlink()
    registry.MODELS._found.clear()
    with pytest.raises(InputError, match=r"Neighbours.*--plugin"):
        jaxrec.resume(run.folder, data=DATA, quiet=True)
    again = jaxrec.resume(run.folder, data=DATA, model=Neighbours, quiet=True)
    assert np.array_equal(np.load(again.folder / "embeddings.npz")["user"], first)


@pytest.mark.long
def test_data_may_come_first_and_a_loss_may_be_a_function(tmp_path, registries):
    def hardest(pos_B, neg_BN, valid_BN=None):
        return jax.nn.softplus(jnp.max(neg_BN, axis=1) - pos_B)

    config = dataclasses.replace(CONFIG, train=TrainConfig(epochs=1, batch_size=64))
    run = jaxrec.train(config, data=DATA, loss=hardest, run=tmp_path / "run", quiet=True)
    assert json.loads((run.folder / "config.json").read_text())["loss"]["name"].endswith("hardest")
    with pytest.raises(InputError, match="twice"):
        jaxrec.train(DATA, data=DATA)


def test_a_loss_is_its_equation_and_its_constant(registries):
    sys.path.insert(0, str(SCRIPTS))
    try:
        own = importlib.import_module("own_parts")
    finally:
        sys.path.pop(0)
    value = own.focal(jnp.zeros(3), jnp.zeros((3, 4)))
    assert np.allclose(value, 0.25 * math.log(2), atol=1e-5)
    masked = own.focal(jnp.zeros(1), jnp.array([[0.0, 9.0]]), jnp.array([[True, False]]))
    assert np.allclose(masked, 0.25 * math.log(2), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda sizes, config, rngs: object(), "must return a subclass of jaxrec.models.Encoder"),
        (lambda sizes, config: None, "called with"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(tmp_path, registries, make, message):
    with pytest.raises(InputError, match=message):
        jaxrec.train(CONFIG, data=DATA, model=make, run=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_names_are_words_of_ones_own(registries):
    for name in ("lightgcn", "two words", ""):
        with pytest.raises(ValueError, match="name"):
            jaxrec.register_model(name)(Neighbours)
    jaxrec.register_model("near")(Neighbours)
    jaxrec.register_model("near")(Neighbours)  # as if the module were loaded again
    with pytest.raises(ValueError, match="is already registered"):
        jaxrec.register_model("near")(Encoder)
    for register, name in (
        (jaxrec.register_loss, "bpr"),
        (jaxrec.register_loss, "bpr-batch-scores"),
        (jaxrec.register_optimizer, "accumulated-gradients"),
        (jaxrec.register_negatives, "uniform"),
        (jaxrec.register_metric, "recall"),
        (jaxrec.register_format, formats.FORMATS[1]),
    ):
        with pytest.raises(ValueError, match="jaxrec's own"):
            register(name)(lambda: None)


def test_options_that_json_cannot_keep_are_refused(registries):
    with pytest.raises(InputError, match=r"functools\.partial"):
        jaxrec.train(CONFIG, data=DATA, loss=partial(losses.hinge, margin=2.0))
    with pytest.raises(InputError, match="model option own"):
        jaxrec.train(CONFIG, data=DATA, model=Neighbours, model_options={"own": object()})
    with pytest.raises(InputError, match="not NAME=VALUE"):
        registry.parsed_options(["own"])


def test_a_plugin_that_is_not_there_is_named():
    with pytest.raises(InputError, match="no_such_module"):
        registry.load_plugins(["no_such_module"])


TOYS = """
import jax.numpy as jnp
import jaxrec
from jaxrec.config import Config, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from jaxrec.diagnosis.finding import Finding
from jaxrec.rowwise import Read, RowOptimizer, RowState


@jaxrec.register_optimizer("sign")
def sign(rate, steps):
    def write(table, state, rows, read, grad):
        moved = read.x_RD - rate(state.step) * jnp.sign(grad)
        return table.at[rows].set(moved, mode="drop"), RowState(state.step + 1, {})

    return RowOptimizer(
        lambda table: RowState(jnp.int32(0), {}),
        lambda table, state, rows: Read(table[rows], {}),
        write,
        lambda table, state: table,
    )


@jaxrec.register_preset("toy")
def toy():
    'A toy: what it is, in a line.'
    return Config(
        preset="toy",
        model=ModelConfig("mf", dim=4, layers=0),
        optim=OptimConfig("sign", learning_rate=0.01),
        train=TrainConfig(epochs=1),
        eval=EvalConfig(k=(20,)),
    )


@jaxrec.register_export("ids")
def ids(table, path):
    path.write_text("\\n".join(table.item_ids))


@jaxrec.register_command("hello")
def hello(args):
    'Say hello.'
    print("hello", *args)


@jaxrec.register_rule("toy-rule")
def rule(course):
    if course.config.optim.name != "sign":
        return None
    return Finding("toy-rule", "the optimizer is a toy", (), "a plugin", ("--optim.name adam",))
"""


@pytest.mark.long
def test_every_other_kind_of_toy_works_from_outside(tmp_path):
    (tmp_path / "toys.py").write_text(TOYS)
    plugin = ("--plugin", "toys")
    help_text = command(*plugin, "--help", folder=tmp_path).stdout
    assert "hello" in help_text
    assert "Say hello." in help_text
    assert command("hello", "you", *plugin, folder=tmp_path).stdout == "hello you\n"
    assert command("hello", folder=tmp_path).returncode == 2
    assert "A toy: what it is" in command("presets", *plugin, folder=tmp_path).stdout
    made = command("train", "toy", *plugin, "--run", "run", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["preset"], config["optim"]["name"]) == ("toy", "sign")
    found = command("doctor", "run", *plugin, folder=tmp_path)
    assert (found.returncode, "the optimizer is a toy" in found.stdout) == (3, True), found.stderr
    exported = command("export", "run", *plugin, "--to", "ids", "--out", "ids", folder=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert len((tmp_path / "ids").read_text().splitlines()) == 1500
    bare = command("export", "run", "--to", "ids", "--out", "other", folder=tmp_path)
    assert (bare.returncode, "npz, parquet, safetensors" in bare.stderr) == (2, True)
    layered = ("train", "toy", *plugin, "--model.name", "lightgcn", "--model.layers", "1")
    refused = command(*layered, "--run", "other", folder=tmp_path)
    assert (refused.returncode, "every row a gradient" in refused.stderr) == (2, True)
    assert not (tmp_path / "other").exists()


def test_every_kind_has_a_toy_outside_and_no_file_of_the_package_is_changed_for_it():
    """Register a toy of each kind, each in a separate file by one line.

    The kinds are loss, negatives, metric, format, export, preset, command, rule, optimizer and
    model.
    """
    outside = TOYS + (SCRIPTS / "own_parts.py").read_text()
    kinds = [name for name in jaxrec.__all__ if name.startswith("register_")]
    lines = {kind: outside.count(f"@jaxrec.{kind}(") for kind in kinds}
    assert lines == dict.fromkeys(kinds, 1)
    assert len(kinds) == 10
    changed = [path for path, before in BEFORE.items() if path.read_bytes() != before]
    assert changed == []
    assert _contents().keys() == BEFORE.keys()


def _code_lines(source: str, name: str) -> int:
    """Count a definition's lines with its decorator, without docstring and blank lines."""
    tree = ast.parse(source)
    (node,) = [n for n in tree.body if getattr(n, "name", None) == name]
    assert isinstance(node, ast.ClassDef | ast.FunctionDef)
    text = ast.get_docstring(node, clean=False)
    of_text = 0 if text is None else text.count("\n") + 1
    rows = source.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno]
    return sum(bool(row.strip()) for row in rows) - of_text


def test_the_worked_example_is_short():
    source = (SCRIPTS / "own_parts.py").read_text()
    assert _code_lines(source, "AttentionLightGCN") <= 15
    assert _code_lines(source, "focal") <= 5


@pytest.mark.long
def test_a_loss_may_be_of_embeddings(tmp_path, registries):
    @jaxrec.register_loss("closeness", of="embeddings")
    def closeness(user_BD, pos_BD, neg, weight_B, valid_BN, temperature):
        """Alignment, and uniformity over a batch's users and items (Wang et al., KDD 2022)."""
        share_B = weight_B / jnp.sum(weight_B)
        aligned = jnp.sum(share_B * jnp.sum(jnp.square(user_BD - pos_BD), axis=1))
        gap_BB = jnp.sum(jnp.square(user_BD[:, None] - pos_BD[None]), axis=2)
        return (aligned + jnp.log(share_B @ jnp.exp(-gap_BB) @ share_B)) / temperature

    loss = dataclasses.replace(CONFIG.loss, name="closeness")
    config = dataclasses.replace(CONFIG, loss=loss)
    run = jaxrec.train(config, data=DATA, run=tmp_path / "run", quiet=True)
    lines = [json.loads(x) for x in (run.folder / "metrics.jsonl").read_text().splitlines()]
    trained = [r["loss"] for r in lines if r["split"] == "train"]
    assert trained[-1] < trained[0]
    assert losses.at_gap("closeness", 0.0) == pytest.approx(0.0)  # u = 1 and p = n = 0 give gap 1
    hard = dataclasses.replace(CONFIG.negatives, hard=1, hard_ranks=(5, 20))
    with pytest.raises(InputError, match=r"closeness takes embeddings.*negatives\.hard"):
        registry.check_known(dataclasses.replace(config, negatives=hard))
