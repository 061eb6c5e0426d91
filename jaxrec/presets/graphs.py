"""Graph recommenders of interactions, and matrix factorisation as their baseline."""

from collections.abc import Callable
from dataclasses import replace

from jaxrec.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)


def quickstart() -> Config:
    """LightGCN with BPR over shared negatives and early stopping, on the built-in data.

    `jaxrec train` reaches test recall@20 0.401, with a range of 0.012 over five seeds, in 11 s in
    total. Popularity reaches 0.108, and the best possible ranking 0.409.
    """
    return Config(
        preset="quickstart",
        model=ModelConfig(dim=64, layers=2),
        loss=LossConfig("bpr"),
        negatives=NegativesConfig("shared", 256),
        optim=OptimConfig("adam", learning_rate=5e-3),
        train=TrainConfig(epochs=30, batch_size=2048, l2=1e-3, patience=5),
        eval=EvalConfig(every=2),
    )


def lightgcn() -> Config:
    """LightGCN with BPR and early stopping on validation, for any data.

    `jaxrec train lightgcn --data PATH` trains it.
    """
    return Config(
        preset="lightgcn",
        train=TrainConfig(epochs=1000, patience=10),
        eval=EvalConfig(every=5),
    )


def mf() -> Config:
    """Matrix factorisation with BPR: LightGCN without propagation, for any data.

    `jaxrec train mf --data PATH` trains it. On Gowalla, with a spectral start and 8 epochs of
    batches of 8,192, it reaches test recall@20 0.1288, and 0.1650 with `--negatives.candidates 32`
    (means of three seeds).
    """
    return replace(lightgcn(), preset="mf", model=ModelConfig("mf", layers=0))


def lightgcn_gowalla() -> Config:
    """LightGCN on the Gowalla split, by the papers' protocol (He et al. 2020, LightGCN-PyTorch).

    `jaxrec train lightgcn-gowalla --data gowalla` trains it on LightGCN's train.txt and test.txt.
    There is no validation part: the epoch is selected on test, as in the papers, and the report
    says so. With `--train.epochs 5` it reaches recall@20 0.1105 and ndcg@20 0.0963 (mean of three
    seeds) with 1.2 GB of memory.
    """
    return Config(
        preset="lightgcn-gowalla",
        split=SplitConfig("given", validation=0.0),
        train=TrainConfig(epochs=1000, batch_size=2048, l2=1e-4, positives="users"),
        negatives=NegativesConfig("uniform", 1),
        eval=EvalConfig(k=(20,), every=10, select_on="test"),
    )


def gowalla_fast() -> Config:
    """A good recall in seconds: wide spectral embeddings, then one epoch of sampled softmax.

    Only the spectral initialisation uses the graph; the training is matrix factorisation. It
    reaches test recall@20 0.1874 and ndcg@20 0.1565 (mean of five seeds; range 0.0007) in 24 s of
    training.

    `jaxrec train gowalla-fast --data gowalla` trains it on LightGCN's train.txt and test.txt. The
    number of epochs was chosen on a validation slice; the run trains on all train pairs and is
    evaluated on test once.
    """
    return Config(
        preset="gowalla-fast",
        split=SplitConfig("given", validation=0.0),
        model=ModelConfig("mf", dim=512, layers=0, init="spectral", init_std=0.1),
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 512),
        optim=OptimConfig("adam", learning_rate=2e-3, schedule="linear"),
        train=TrainConfig(epochs=1, batch_size=8192, l2=1e-2),
        eval=EvalConfig(k=(20,), every=0, select_on="none"),
        checkpoint=CheckpointConfig(every=0),
    )


def gowalla_strong() -> Config:
    """LightGCN with sampled softmax from a spectral start, for the best recall in minutes.

    It reaches test recall@20 0.1854 and ndcg@20 0.1561 (mean of five seeds; range 0.0007) in 9
    minutes of training on two busy CPU cores.

    `jaxrec train gowalla-strong --data gowalla` trains it on LightGCN's train.txt and test.txt. The
    hyper-parameters and the number of epochs were chosen on a validation slice; the run trains on
    all train pairs and is evaluated on test once.
    """
    return Config(
        preset="gowalla-strong",
        split=SplitConfig("given", validation=0.0),
        model=ModelConfig(dim=128, layers=2, init="spectral", init_std=0.1),
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 1024),
        optim=OptimConfig("adam", learning_rate=1e-2, schedule="linear"),
        train=TrainConfig(epochs=20, batch_size=8192, l2=4e-2),
        eval=EvalConfig(k=(20,), every=0, select_on="none"),
        checkpoint=CheckpointConfig(every=0),
    )


def ngcf() -> Config:
    """NGCF in the paper's form (Wang et al. 2019) with sampled softmax, for any data.

    The learning rate of the matrices is 1/50 of the table's, since the matrices overfit at the
    table's rate. L2 is large, since the table overfits with a small L2.

    `jaxrec train ngcf --data PATH` trains it. On Gowalla, trained on all train pairs for 16 epochs
    with a linear schedule, it reaches test recall@20 0.1643 and ndcg@20 0.1340 (mean of three
    seeds; range 0.0014) in 3 minutes.
    """
    return Config(
        preset="ngcf",
        model=ModelConfig("ngcf", layers=2, init="spectral", matrices="linear"),
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 1024),
        optim=OptimConfig("adam", learning_rate=5e-3, rest_rate=0.02),
        train=TrainConfig(epochs=100, batch_size=8192, l2=0.5, patience=5),
        eval=EvalConfig(every=1),
    )


def gcmc() -> Config:
    """GC-MC (van den Berg et al. 2018) with sampled softmax, for any data.

    It uses features and rating levels if the data has them; without ids (`--model.no-ids`) it needs
    `--model.init normal`.

    `jaxrec train gcmc --data PATH` trains it. On Gowalla, trained on all train pairs for 8 epochs
    with a linear schedule, it reaches test recall@20 0.1485 and ndcg@20 0.1174 (mean of three
    seeds; range 0.0013) in 47 s of training.
    """
    return Config(
        preset="gcmc",
        model=ModelConfig("gcmc", layers=1, hidden_dim=128, init="spectral", matrices="linear"),
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 1024),
        optim=OptimConfig("adam", learning_rate=5e-3),
        train=TrainConfig(epochs=100, batch_size=8192, l2=2e-2, patience=5),
        eval=EvalConfig(every=2),
    )


def pinsage() -> Config:
    """PinSAGE (Ying et al. 2018): sampled blocks, neighbours by random walks, for large graphs.

    It uses features if the data has them; with `--model.no-ids` they are the only input, and
    `jaxrec embed` can then embed unseen items.

    `jaxrec train pinsage --data PATH` trains it. `python -m bench lecture` trains it on all train
    pairs of Gowalla with other options: 8 and 4 uniformly drawn neighbours, biases, and a spectral
    start with linear matrices. It then reaches test recall@20 0.1443 and ndcg@20 0.1122 (mean of
    three seeds; range 0.0056) in 134 s of training.
    """
    return Config(
        preset="pinsage",
        model=ModelConfig("pinsage", layers=2, fan_outs=(10, 5)),
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 512),
        optim=OptimConfig("adam", learning_rate=5e-3),
        train=TrainConfig(epochs=100, batch_size=2048, l2=1e-2, patience=3),
        eval=EvalConfig(every=1),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "quickstart": quickstart,
    "lightgcn": lightgcn,
    "mf": mf,
    "lightgcn-gowalla": lightgcn_gowalla,
    "gowalla-fast": gowalla_fast,
    "gowalla-strong": gowalla_strong,
    "ngcf": ngcf,
    "gcmc": gcmc,
    "pinsage": pinsage,
}
