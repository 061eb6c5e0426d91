import dataclasses
import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from jaxrec import config as configs
from jaxrec import presets
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    PairsConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.errors import InputError
from jaxrec.registry import check_known

TOWERS = partial(ModelConfig, "two-tower", layers=0)
FROZEN = ModelConfig("mf", layers=0, frozen_items="vectors.npz")
MF_SPARSE = {"model": ModelConfig("mf", layers=0), "optim": OptimConfig(sparse=True)}
MF, HOST = ModelConfig("mf", layers=0), MeshConfig(memory="host")


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_survives_the_round_trip_through_json(name, tmp_path):
    config = presets.get(name)
    assert config.preset == name
    assert (presets.PRESETS[name].__doc__ or "").strip()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configs.to_dict(config)))
    assert configs.load(path) == config


def test_the_metric_that_selects_goes_by_what_is_judged():
    assert presets.get("skipgram").metric == "auc"
    assert presets.get("quickstart").metric == "recall@20"
    changed = dataclasses.replace(presets.get("skipgram"), eval=EvalConfig(metric="recall@50"))
    assert changed.metric == "recall@50"


@given(
    dim=st.integers(1, 512),
    k=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    clip=st.none() | st.floats(0.01, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip_of_any_values(dim, k, clip, seed):
    config = Config(
        seed=seed,
        model=ModelConfig(dim=dim),
        optim=OptimConfig(clip_norm=clip),
        eval=EvalConfig(k=tuple(k), metric=f"ndcg@{k[0]}"),
    )
    assert configs.from_dict(json.loads(json.dumps(configs.to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": {"dmi": 3}}, ["model.", "'dmi'", "'dim'"]),
        ({"modle": {}}, ["'modle'", "'model'"]),
        ({"model": {"dim": "x"}}, ["model.dim", "int", "'x'"]),
        ({"model": {"dim": True}}, ["model.dim", "int"]),
        ({"model": {"dim": 2.5}}, ["model.dim", "int"]),
        ({"eval": {"k": 20}}, ["eval.k", "list"]),
        ({"model": 3}, ["model", "object"]),
        ({"seed": -1}, ["seed"]),
        ({"preset": "../../x"}, ["preset", "'../../x'"]),
        ({"preset": ""}, ["preset"]),
        ({"data": "a\0b"}, ["data", "an invalid character"]),
        ({"model": {"frozen_items": "\ud800"}}, ["model.frozen_items", "an invalid character"]),
    ],
)
def test_what_a_file_may_not_say_is_refused_by_name(values, words, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError) as caught:
        configs.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"null", b'{"model": null}']
)
def test_a_file_that_is_no_configuration_is_refused(content, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        configs.load(path)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: ModelConfig(dim=0), "model.dim"),
        (lambda: ModelConfig(layers=-1), "model.layers"),
        (lambda: ModelConfig(init_std=0.0), "init_std"),
        (lambda: LossConfig(temperature=0.0), "temperature"),
        (lambda: NegativesConfig(count=0), "negatives.count"),
        (lambda: NegativesConfig("in-batch", 2), "negatives.count"),
        (lambda: NegativesConfig(hard=-1), "negatives.hard"),
        (lambda: ModelConfig(layers=0, layer_weights="learned"), "model.layer_weights learned"),
        (lambda: ModelConfig(layers=0, edge_dropout=0.1), "model.edge_dropout"),
        (
            lambda: Config(negatives=NegativesConfig("in-batch"), train=TrainConfig(batch_size=1)),
            "train.batch_size of at least 2",
        ),
        (
            lambda: Config(
                loss=LossConfig("softmax"), negatives=NegativesConfig(candidates=3, log_q=True)
            ),
            "negatives.log_q",
        ),
        (
            lambda: configs.from_dict({"negatives": {"hard_ranks": [1, 2, 3]}}),
            "negatives.hard_ranks must be a list of 2",
        ),
        (lambda: NegativesConfig(hard_ranks=(9, 9)), "negatives.hard_ranks"),
        (lambda: NegativesConfig(hard=1, hard_schedule=(0, 2)), "negatives.hard_schedule"),
        (lambda: NegativesConfig(hard=1, candidates=2), "negatives.hard and negatives.candidates"),
        (lambda: NegativesConfig("in-batch", popularity=1.0), "negatives.popularity"),
        (lambda: NegativesConfig(popularity=-1.0), "negatives.popularity"),
        (lambda: NegativesConfig("shared", candidates=2), "negatives.candidates"),
        (lambda: Config(negatives=NegativesConfig(log_q=True)), "negatives.log_q needs loss.name"),
        (lambda: OptimConfig(learning_rate=float("nan")), "learning_rate"),
        (lambda: OptimConfig(rest_rate=0.0), "optim.rest_rate must be positive, not 0.0"),
        (
            lambda: Config(optim=OptimConfig(rest_rate=0.5), mesh=MeshConfig(table=2)),
            "optim.rest_rate is not supported on a mesh of devices",
        ),
        (lambda: OptimConfig("sgd", weight_decay=1.0), "adamw"),
        (lambda: OptimConfig("adam", momentum=0.9), "sgd"),
        (lambda: TrainConfig(batch_size=0), "batch_size"),
        (lambda: TrainConfig(steps=-1), "train.steps"),
        (lambda: EvalConfig(k=()), "eval.k"),
        (lambda: EvalConfig(k=(20, 20)), "twice"),
        (lambda: check_known(Config(eval=EvalConfig(metric="recal@20"))), "'recall'"),
        (lambda: check_known(Config(model=ModelConfig("lightgnc"))), "'lightgcn'"),
        (lambda: check_known(Config(loss=LossConfig("sofmax"))), "'softmax'"),
        (lambda: EvalConfig(k=(10,), metric="recall@20"), "eval.k"),
        (lambda: EvalConfig(metric="acu"), "'auc'"),
        (lambda: SplitConfig(test=1.0), "split.test"),
        (lambda: PairsConfig(test=1.0), "pairs.test must be a share"),
        (lambda: PairsConfig(validation=-0.1), "pairs.validation must be a share"),
        (lambda: PairsConfig(also_bought=-1.0), "pairs.also_bought must be at least 0, not -1"),
        (
            lambda: PairsConfig(bought_together=0.0, also_bought=0.0, also_viewed=0.0),
            "give at least one a weight",
        ),
        (lambda: PairsConfig(window=-1.0), "pairs.window"),
        (lambda: PairsConfig(history=1), "pairs.history"),
        (lambda: PairsConfig(ranked=-1), "pairs.ranked"),
        (lambda: PairsConfig(min_weight=float("inf")), "pairs.min_weight"),
        (lambda: Config(pairs=PairsConfig(test=0.2)), "pairs.test is for item models"),
        (lambda: Config(eval=EvalConfig(metric="auc")), "eval.metric auc is for item models"),
        (lambda: SplitConfig("temporal", test_time=1.0, validation_time=2.0), "validation_time"),
        (lambda: SplitConfig(test_time=1.0), "temporal"),
        (lambda: ModelConfig("mf", layers=3), "model.layers"),
        (lambda: MeshConfig(table=0), "mesh.table must be at least 1"),
        (lambda: MeshConfig(processes=2), "mesh.processes and mesh.process_id need mesh.coord"),
        (lambda: MeshConfig(coordinator="here"), "mesh.coordinator must be HOST:PORT or auto"),
        (lambda: MeshConfig(coordinator="a:1"), "mesh.coordinator needs mesh.processes"),
        (lambda: MeshConfig(1, 2, "data", "auto", "a:1", 2, 2), "mesh.process_id must be below"),
        (
            lambda: Config(mesh=HOST),
            "mesh.memory host: the layers of model.name lightgcn read the whole table; take mf",
        ),
        (
            lambda: Config(model=ModelConfig("two-tower", layers=0), mesh=HOST),
            "two-tower embeds from a table on the device; take mf; or set mesh.memory device",
        ),
        (
            lambda: Config(model=MF, optim=OptimConfig(clip_norm=1.0), mesh=HOST),
            "mesh.memory host: it needs an optimizer that updates only the rows of a batch",
        ),
        (lambda: Config(model=MF, mesh=MeshConfig(table=2, memory="host")), "must be 1"),
        (
            lambda: Config(model=ModelConfig("mf", layers=0, init="spectral"), mesh=HOST),
            "mesh.memory host: model.init spectral",
        ),
        (
            lambda: Config(model=ModelConfig("ngcf"), mesh=MeshConfig(table=2)),
            "model.name ngcf trains on one device, not on a mesh; take lightgcn or mf",
        ),
        (
            lambda: Config(model=ModelConfig(edge_dropout=0.1), mesh=MeshConfig(table=2)),
            "model.edge_dropout is not supported on a mesh of devices; set mesh.data and",
        ),
        (
            lambda: Config(train=TrainConfig(batch_size=9), mesh=MeshConfig(data=2)),
            "train.batch_size 9 must be a multiple of mesh.data 2",
        ),
        (lambda: OptimConfig("adamw", weight_decay=-1.0), "weight_decay"),
        (lambda: OptimConfig("sgd", momentum=1.0), "momentum"),
        (
            lambda: ModelConfig("pinsage", layers=2, fan_outs=(3,)),
            r"model.fan_outs needs one number per layer \(2\), not \(3\)",
        ),
        (
            lambda: ModelConfig("pinsage", layers=1, fan_outs=(0,)),
            "model.fan_outs must be at least 1, not 0",
        ),
        (
            lambda: ModelConfig("pinsage", layers=1, fan_outs=(9,), walks=4, walk_length=2),
            "model.fan_outs asks for 9 neighbours, but 4 walks of 2 visit at most 8",
        ),
        (lambda: ModelConfig("pinsage", layers=1, walks=4), "model.fan_outs asks for 10"),
        (
            lambda: ModelConfig("gcmc", layers=1, matrices="linear", hidden_dim=5),
            "model.matrices linear needs an even model.hidden_dim, not 5",
        ),
        (lambda: ModelConfig("pinsage", walks=0), "model.walks must"),
        (lambda: ModelConfig("pinsage", walk_length=0), "model.walk_length must"),
        (lambda: ModelConfig("gcmc", layers=0), "model.layers must be at least 1 for gcmc"),
        (lambda: ModelConfig("gcmc", hidden_dim=0), "model.hidden_dim"),
        (lambda: ModelConfig("gcmc", ids=False, features=False), "model.ids and model.features"),
        (lambda: ModelConfig("gcmc", ids=False, init="spectral"), "spectral needs model.ids"),
        (
            lambda: ModelConfig("ngcf", fan_outs=(3, 3, 3)),
            "model.fan_outs is for pinsage",
        ),
        (lambda: ModelConfig("pinsage", levels=True), "model.levels is for gcmc, not pinsage"),
        (lambda: ModelConfig("lightgcn", ids=False), "model.ids is for gcmc and pinsage"),
        (lambda: ModelConfig("mf", layers=0, features=True), "model.features is for gcmc and"),
        (lambda: ModelConfig("gcmc", message_dropout=0.1), "model.message_dropout is for ngcf"),
        (lambda: ModelConfig("gcmc", neighbors="uniform"), "model.neighbors is for pinsage"),
        (lambda: ModelConfig(score="mlp", score_width=0), "model.score_width"),
        (lambda: ModelConfig("two-tower"), "model.layers must be 0 for two-tower"),
        (lambda: TOWERS(tower_dims=(3, 0)), r"model.tower_dims must be at least 1, not 0"),
        (lambda: TOWERS(id_dim=0), "model.id_dim must be"),
        (lambda: TOWERS(ids=False, id_dropout=0.1), "id_dropout need model.ids"),
        (lambda: TOWERS(init="spectral"), "spectral needs a table as wide"),
        (lambda: TOWERS(frozen_items="x"), "model.frozen_items is for mf"),
        (lambda: TOWERS(features=False, columns=("age",)), "model.columns selects features"),
        (lambda: ModelConfig(final="relu"), "model.final is for two-tower"),
        (
            lambda: ModelConfig("mf", layers=0, init="spectral", frozen_items="x"),
            "model.init spectral and model.frozen_items",
        ),
        (lambda: LossConfig(margin=2.0), "loss.margin needs loss.name hinge"),
        (lambda: LossConfig("hinge", margin=0.0), "loss.margin must be positive"),
        (lambda: LossConfig(center=False), "loss.center needs loss.name mse"),
        (lambda: NegativesConfig("all", 2), "all uses all"),
        (lambda: NegativesConfig("exposed", popularity=1.0), "uniform and shared, not exposed"),
        (lambda: NegativesConfig(pick="semi-hard"), "negatives.candidates to pick from"),
        (
            lambda: NegativesConfig("shared", 9, pick="similar", hard=1),
            "negatives.hard and negatives.pick",
        ),
        (
            lambda: Config(
                loss=LossConfig("softmax"), negatives=NegativesConfig("in-batch", pick="similar")
            ),
            "negatives.log_q needs the probability",
        ),
        (
            lambda: Config(train=TrainConfig(l2_over="tables"), **MF_SPARSE),
            "train.l2_over tables updates every row",
        ),
        (
            lambda: Config(mistakes=("accumulated-gradients",), **MF_SPARSE),
            "accumulated-gradients needs the gradients of all rows",
        ),
        (
            lambda: Config(model=TOWERS(ids=False), train=TrainConfig(l2_over="tables")),
            "tables needs model.ids",
        ),
        (
            lambda: Config(model=FROZEN, train=TrainConfig(l2_over="parameters")),
            "would change rows that model.frozen_items freezes",
        ),
        (lambda: Config(model=FROZEN, optim=OptimConfig("adamw")), "adamw would decay rows"),
        (
            lambda: Config(loss=LossConfig("bce"), mistakes=("sum-in-sigmoid",)),
            "sum-in-sigmoid needs loss.name bpr",
        ),
        (
            lambda: Config(loss=LossConfig("hinge"), mistakes=("batch-scores",)),
            "batch-scores needs loss.name bpr or triplet",
        ),
        (
            lambda: Config(negatives=NegativesConfig(count=2), mistakes=("batch-scores",)),
            "batch-scores needs one negative per pair",
        ),
        (lambda: Config(mistakes=("sum-in-sigmoid",) * 2), "mistakes has a name twice"),
        (
            lambda: Config(model=ModelConfig(score="mlp"), mistakes=("sum-in-sigmoid",)),
            "need model.score dot or cosine",
        ),
        (
            lambda: Config(negatives=NegativesConfig(hard=1), mistakes=("sum-in-sigmoid",)),
            "negatives.hard 0",
        ),
        (
            lambda: Config(
                negatives=NegativesConfig(count=2, candidates=3), mistakes=("batch-scores",)
            ),
            "batch-scores needs one negative per pair",
        ),
        (
            lambda: Config(model=ModelConfig("gcmc"), optim=OptimConfig(sparse=True)),
            "optim.sparse needs model.layers 0, or pinsage with model.ids",
        ),
        (
            lambda: Config(
                model=ModelConfig("pinsage", ids=False), optim=OptimConfig("rowwise_adagrad")
            ),
            "rowwise_adagrad needs model.layers 0, or pinsage with model.ids",
        ),
        (
            lambda: Config(train=TrainConfig(refit=True), eval=EvalConfig(select_on="test")),
            "refit",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(make, word):
    with pytest.raises(InputError, match=word):
        make()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"loss": {"name": "bpr"}}, "loss.name bpr is not for skipgram"),
        ({"negatives": {"name": "uniform"}}, "negatives.name must be shared for skipgram"),
        ({"negatives": {"candidates": 2, "name": "uniform"}}, "negatives.candidates is not for"),
        ({"negatives": {"groups": 3}}, "negatives.groups"),
        ({"negatives": {"per_pair": 0.0}}, "negatives.per_pair"),
        ({"train": {"positives": "edges"}}, "item-mf takes edges"),
        ({"split": {"test": 0.5}}, "the options split.* are for interactions"),
        ({"filter": {"k_core": 2}}, "the options filter.* are for interactions"),
        ({"model": {"biases": True}}, "model.biases is not for skipgram"),
        ({"model": {"init": "spectral"}}, "model.init spectral is not for skipgram"),
        ({"model": {"score": "mlp"}}, "model.score must be dot or cosine for skipgram"),
        ({"model": {"layers": 2}}, "model.layers must be 0 for skipgram"),
        ({"optim": {"name": "adamw"}}, "skipgram needs an optimizer that updates only"),
        ({"optim": {"cycles": 2}}, "optim.cycles needs optim.schedule cosine"),
        ({"walks": {"p": 0.0}}, "walks.p must be at least 0.01, not 0.0"),
        ({"walks": {"length": 1}}, "walks.length"),
        ({"walks": {"subsample": 1.0}}, "walks.subsample"),
        ({"model": {"name": "mf"}, "loss": {"name": "bpr"}}, "is for item models"),
    ],
)
def test_what_models_of_items_cannot_have_is_refused_by_name(sections, words):
    values = configs.to_dict(presets.get("skipgram"))
    for section, fields in sections.items():
        values[section] |= fields
    with pytest.raises(InputError, match=words):
        configs.from_dict(values)


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3  # pyright: ignore


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match="'quickstart'"):
        presets.get("quikstart")


def test_a_section_of_another_kind_is_refused_by_name():
    with pytest.raises((InputError, TypeCheckError), match="train"):
        Config(train={"epochs": 1})  # pyright: ignore
