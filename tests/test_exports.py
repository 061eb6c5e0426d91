"""Test that each format, read by its library, yields (nearly) the lists of ``recommend``."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from flax import nnx
from made_graph import flat, random_data, shaken
from made_run import trained, write_embeddings
from processes import environment

from jaxrec import models
from jaxrec.config import Config, ModelConfig, to_dict
from jaxrec.data.features import Bag, Category, Column, Features, Number, Vector
from jaxrec.data.frame_features import from_frame
from jaxrec.data.schema import encode, fit
from jaxrec.errors import InputError
from jaxrec.exporting import export
from jaxrec.graph import bipartite
from jaxrec.graph.csr import DeviceCsr
from jaxrec.models import NewEdges
from jaxrec.models.encoder import unit_rows
from jaxrec.recommend import Recommender
from jaxrec.training.device_data import Inputs

RNG = np.random.default_rng(0)
N_USERS, N_ITEMS, DIM, K = 20, 300, 8, 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with biases of users and items, in which no user has an item."""
    folder = tmp_path_factory.mktemp("exports") / "run"
    biases = {"user_bias": RNG.normal(size=N_USERS), "item_bias": RNG.normal(size=N_ITEMS)}
    more = {name: x.astype(np.float32) for name, x in biases.items()}
    user, item = RNG.normal(size=(N_USERS, DIM)), RNG.normal(size=(N_ITEMS, DIM))
    return write_embeddings(folder, user, item, **more)


@pytest.fixture(scope="module")
def lists(run: Path) -> np.ndarray:
    """Return item rows [U, K] as ``recommend`` ranks them."""
    frame = Recommender.load(run).recommend([f"u{n}" for n in range(N_USERS)], K)
    return frame["item"].str.slice(1).cast(int).to_numpy().reshape(N_USERS, K)


def exported(run: Path, to: str, out: Path) -> list[str]:
    lines: list[str] = []
    export(run, to, out, say=lines.append)
    return lines


def queries(folder: Path) -> np.ndarray:
    frame = pl.read_parquet(folder / "users.parquet")
    assert frame["id"].to_list() == [f"u{n}" for n in range(N_USERS)]
    assert pl.read_parquet(folder / "items.parquet")["id"].to_list()[:2] == ["i0", "i1"]
    return np.array(frame["query"].to_list(), np.float32)


def told_recall(lines: list[str]) -> float:
    found = re.match(r"recall@20 against exact search for 20 users: ([\d.]+)", lines[0])
    assert found is not None
    return float(found[1])


def share(found: np.ndarray, lists: np.ndarray) -> float:
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(lists, found, strict=True)]))


def test_faiss(run: Path, lists: np.ndarray, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="the extra `ann`")
    assert told_recall(exported(run, "faiss", tmp_path / "out")) > 0.95
    index = faiss.read_index(str(tmp_path / "out" / "items.faiss"))
    assert share(index.search(queries(tmp_path / "out"), K)[1], lists) > 0.95


def test_hnswlib(run: Path, lists: np.ndarray, tmp_path: Path) -> None:
    hnswlib = pytest.importorskip("hnswlib", reason="the extra `ann`")
    assert told_recall(exported(run, "hnswlib", tmp_path / "out")) > 0.95
    index = hnswlib.Index(space="ip", dim=DIM + 1)
    index.load_index(str(tmp_path / "out" / "items.hnsw"))
    index.set_ef(200)
    assert share(index.knn_query(queries(tmp_path / "out"), K)[0], lists) > 0.95


def test_usearch(run: Path, lists: np.ndarray, tmp_path: Path) -> None:
    usearch = pytest.importorskip("usearch.index", reason="the extra `ann`")
    assert told_recall(exported(run, "usearch", tmp_path / "out")) > 0.95
    index = usearch.Index.restore(str(tmp_path / "out" / "items.usearch"))
    found = np.asarray(index.search(queries(tmp_path / "out"), K).keys).reshape(N_USERS, K)
    assert share(found, lists) > 0.95


def test_onnx(run: Path, lists: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx`")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    exported(run, "onnx", tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    asked = {"user": np.arange(N_USERS), "k": np.array([K])}
    items, scores = session.run(["item", "score"], asked)
    assert (items == lists).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_a_learned_score_in_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx`")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    shapes = {"user_DH": (DIM, 3), "item_DH": (DIM, 3), "bias_H": 3, "out_H": 3, "product_D": DIM}
    more = {f"score_{name}": RNG.normal(size=n).astype(np.float32) for name, n in shapes.items()}
    more["item_bias"] = RNG.normal(size=50).astype(np.float32)
    user, item = RNG.normal(size=(6, DIM)), RNG.normal(size=(50, DIM))
    run = write_embeddings(tmp_path / "run", user, item, **more)
    exported(run, "onnx", tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    items, _ = session.run(["item", "score"], {"user": np.arange(6), "k": np.array([K])})
    expected = Recommender.load(run).recommend([f"u{n}" for n in range(6)], K)["item"]
    assert [f"i{n}" for n in items.ravel()] == expected.to_list()


COLUMNS: dict[str, Column] = {
    "price": Number(np.array([1, np.nan, 3.5, -2], np.float32)),
    "group": Category(np.array([0, 1, 2, 1], np.int32), np.array(["", "a", "größe"])),
    "tags": Bag(
        np.array([0, 1, 3, 4, 4], np.int32),
        np.array([2, 1, 3, 3], np.int32),
        np.array(["", "x", "y", "z"]),
    ),
    "image": Vector(np.array([[1, 2], [np.nan, np.nan], [0, -1], [3, 3]], np.float32)),
}
TEXTS = {
    "group": [None, "a", "größe", "unknown"],
    "tags": [None, ["y"], ["x", "y", "z", "unknown"], ["x", "z"]],
}


@pytest.mark.parametrize(
    "options",
    [
        {"tower_dims": (5, 4), "id_dropout": 0.5, "id_dim": 2, "activation": "gelu"},
        {"tower_dims": (5,), "ids": False, "bags": "sum", "score": "cosine", "final": "relu"},
        {"ids": False, "final": "softmax"},
    ],
)
def test_towers_in_onnx_embed_new_items_by_their_raw_features(
    options: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx`")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    schema = fit(Features(COLUMNS), np.arange(3))  # its bags keep at most two names
    model_config = ModelConfig("two-tower", dim=3, layers=0, **options)
    sizes = Inputs(item=schema).sizes
    model = shaken(models.build(model_config, 6, 8, jax.random.key(0), sizes))
    run = write_embeddings(tmp_path / "run", np.ones((6, 3)), np.ones((8, 3)))
    (run / "config.json").write_text(json.dumps(to_dict(Config(model=model_config))))
    (run / "features.json").write_text(json.dumps(Inputs(item=schema).to_dict()))
    parameters = flat(nnx.state(model, nnx.Param))
    parameters = {name: x.astype(np.float32) for name, x in parameters.items()}
    np.savez(run / "parameters.npz", **parameters)
    lines = exported(run, "onnx-towers", tmp_path / "out")
    assert lines[0].startswith("item.onnx: embedding [n, 3] from item.price (float [n]), ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["item.onnx"]
    session = runtime.InferenceSession(str(tmp_path / "out" / "item.onnx"))
    price, image = COLUMNS["price"], COLUMNS["image"]
    assert isinstance(price, Number)
    assert isinstance(image, Vector)
    tags = [[*(names or []), *[""] * 4][:4] for names in TEXTS["tags"]]
    given = {
        "item.price": price.value,
        "item.image": image.value,
        "item.group": np.array([name or "" for name in TEXTS["group"]], object),
        "item.tags": np.array(tags, object),
    }
    (found,) = session.run(["embedding"], given)
    frame = pl.DataFrame(TEXTS | {"id": ["a", "b", "c", "d"]})
    frame = frame.with_columns(price=price.value, image=image.value)
    x = encode(from_frame(frame, "id", frame["id"].to_numpy(), str, kind="item"), schema)
    nothing = jnp.zeros(0, jnp.int32)
    no_edges = NewEdges(DeviceCsr(jnp.zeros(5, jnp.int32), nothing), nothing)
    graph = bipartite.build(random_data())
    expected = model.embed_items(graph, jax.tree.map(jnp.asarray, x), no_edges, jax.random.key(0))
    if "score" in options:
        expected = unit_rows(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_models_without_towers_say_what_exports_them(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra `onnx`")
    with pytest.raises(InputError, match=r"lightgcn has no towers; .*--to onnx"):
        export(run, "onnx-towers", tmp_path / "out")


def test_a_function_of_jax_runs_without_jaxrec(
    run: Path, lists: np.ndarray, tmp_path: Path
) -> None:
    pytest.importorskip("flatbuffers", reason="which jax.export writes with")
    exported(run, "jax", tmp_path / "out")
    program = (tmp_path / "out" / "use.py").read_text() + (
        "import sys\nassert not [m for m in sys.modules if m.startswith('jaxrec.')]\n"
        "np.save('items.npy', items)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "out",
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "out" / "items.npy")
    assert found.shape == (3, 100)
    assert (found[:, :K] == lists[:3]).all()


def test_hub_has_the_tensors_and_a_card(tmp_path: Path) -> None:
    reader = pytest.importorskip("safetensors.numpy", reason="reads what was exported")
    exported(trained(), "hub", tmp_path / "out")
    stored = reader.load_file(tmp_path / "out" / "model.safetensors")
    with np.load(trained() / "embeddings.npz") as own:
        assert (stored["item"] == own["item"]).all()
    card = (tmp_path / "out" / "README.md").read_text()
    value = json.loads((trained() / "eval.json").read_text())["metrics"]["recall@20"]
    assert f"{value:.4f}" in card
    for heading in ("## Data", "## Results", "## Limits"):
        assert heading in card
    front = json.loads(card.split("---")[1])
    assert front["model-index"][0]["results"][0]["metrics"]


def test_names_from_data_stay_text_in_the_card(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", np.eye(2), np.eye(2))
    (run / "env.json").write_text(json.dumps({"data": {"name": "a\n# b <script>|[x](y)"}}))
    exported(run, "hub", tmp_path / "out")
    body = (tmp_path / "out" / "README.md").read_text().split("---")[2]
    assert "<script>" not in body.replace("\\<", "")
    assert "* name: a \\# b \\<script\\>\\|\\[x\\](y)" in body


def test_duckdb(run: Path, lists: np.ndarray, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="the extra `tables`")
    exported(run, "duckdb", tmp_path / "out.duckdb")
    query = """
        SELECT i.id FROM users u, items i WHERE u.id = 'u3'
        ORDER BY array_inner_product(u.embedding, i.embedding) + i.bias DESC LIMIT 10
    """
    with duckdb.connect(str(tmp_path / "out.duckdb"), read_only=True) as database:
        found = [row[0] for row in database.execute(query).fetchall()]
    assert found == [f"i{n}" for n in lists[3]]


def test_lance(run: Path, lists: np.ndarray, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="the extra `tables`")
    exported(run, "lance", tmp_path / "out")
    items = lance.dataset(str(tmp_path / "out" / "items.lance"))
    users = lance.dataset(str(tmp_path / "out" / "users.lance")).to_table().to_pydict()
    user = np.array(users["embedding"][3], np.float32)
    nearest = {"column": "embedding", "q": user, "k": N_ITEMS, "metric": "dot"}
    found = items.to_table(nearest=nearest).to_pydict()
    score = found["bias"] - np.array(found["_distance"])
    assert [found["id"][n] for n in np.argsort(-score)[:K]] == [f"i{n}" for n in lists[3]]


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL server on a socket in a folder, and yield its address."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server is installed (/usr/lib/postgresql)")
    before: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        if not shutil.which("setpriv"):
            pytest.skip("PostgreSQL does not run as root, and setpriv is missing")
        try:
            shutil.chown(folder, "postgres")
        except LookupError:
            pytest.skip("PostgreSQL does not run as root, and no user is called postgres")
        before = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    # Paths of sockets must be short, and pytest's folders may have longer ones.
    programs, data = found[-1].parent, folder / "data"
    quiet = {"check": True, "capture_output": True, "cwd": folder, "timeout": 120}
    subprocess.run([*before, programs / "initdb", "-A", "trust", "-U", "me", "-D", data], **quiet)
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    start = [*before, programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options]
    subprocess.run([*start, "start"], **quiet)
    try:
        yield f"host={folder} user=me dbname=postgres"
    finally:
        stop = [*before, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run(stop, **quiet)


def test_postgresql(run: Path, lists: np.ndarray) -> None:
    psycopg = pytest.importorskip("psycopg", reason="the extra `tables`")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    query = """
        SELECT i.id FROM jaxrec_items i, jaxrec_users u WHERE u.id = 'u3' ORDER BY i.bias + (
            SELECT sum(a * b) FROM unnest(i.embedding, u.embedding) AS t (a, b)
        ) DESC LIMIT 10
    """
    try:
        with postgres(folder) as address:
            for _ in range(2):  # the second export replaces the first
                lines: list[str] = []
                export(run, "postgresql", address, say=lines.append)
                assert lines == ["tables jaxrec_users and jaxrec_items, with embeddings as real[]"]
            with psycopg.connect(address) as connection:
                found = [row[0] for row in connection.execute(query).fetchall()]
        assert found == [f"i{n}" for n in lists[3]]
        with pytest.raises(InputError, match="export to postgresql: "):
            export(run, "postgresql", address)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_what_is_missing_is_named(run: Path, tmp_path: Path, monkeypatch) -> None:
    from jaxrec.exports import faiss_index

    monkeypatch.setattr(faiss_index, "NEEDS", {"no_such_module": "faiss-cpu"})
    with pytest.raises(InputError, match="pip install 'faiss-cpu'"):
        export(run, "faiss", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_learned_scores_have_no_index(tmp_path: Path) -> None:
    width = {"score_product_D": 2, "score_bias_H": 3, "score_out_H": 3}
    more = {name: np.ones(n, np.float32) for name, n in width.items()}
    more |= {f"score_{side}_DH": np.ones((2, 3), np.float32) for side in ("user", "item")}
    run = write_embeddings(tmp_path / "run", np.eye(2), np.eye(2), **more)
    with pytest.raises(InputError, match="learned function"):
        export(run, "jax", tmp_path / "out")
    assert not (tmp_path / "out").exists()
