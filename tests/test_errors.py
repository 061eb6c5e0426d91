"""Test hints at the name that was meant, and that interruptions are KeyboardInterrupt too."""

import pytest

import jaxrec
from jaxrec import presets
from jaxrec.errors import nearest

MEANT = {
    "trian": ("train", ("resume", "train", "evaluate")),
    "quikstart": ("quickstart", tuple(presets.PRESETS)),
    "--model.dmi": ("--model.dim", ("--model.dim", "--model.ids", "--train.l2")),
    "--model.batch_norms": ("--model.batch_norm", ("--model.batch_norm", "--model.ids")),
    "--dim": ("--model.dim", ("--seed", "--run", "--model.dim")),
    "brp": ("bpr", ("bce", "bpr", "mse")),
    "acu": ("auc", ("mae", "auc", "map")),
    "recal": ("recall", ("recall_capped", "recall", "precision")),
    "stat": ("stats", ("synth", "stats", "walks")),
    "user-id": ("user_id", ("item_id", "user_id")),
    "H20": ("H200", ("A100", "H100", "H200")),
    "quick": ("quickstart", tuple(presets.PRESETS)),
    "Rating": ("rating", ("time", "rating")),
    "i33": ("i3", ("i0", "i3", "i31")),
    "i001": ("i01", ("i00", "i01", "i10")),
}
NOT_MEANT = {
    "--lr": ("--run", "--seed", "--l2"),
    "--model.width": ("--model.dim", "--model.ids", "--model.walks"),
    "xlsx": ("csv", "tsv", "parquet"),
    "buy": ("click", "view"),
    "12345": ("12346", "1234", "123455", "22345"),
    "H300": ("H100", "H200", "A100"),
    "i7": ("i8", "i70", "u7"),
    "apple": ("maple", "grape", "angle"),
    "gnn": ("mf", "ngcf", "gcmc"),
    "": ("a", "b"),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_was_meant_is_named(name):
    meant, names = MEANT[name]
    assert nearest(name, names) == f" (did you mean {meant!r}?)"


@pytest.mark.parametrize("name", NOT_MEANT)
def test_what_nobody_meant_is_not_named(name):
    assert nearest(name, NOT_MEANT[name]) == ""


def test_an_interruption_is_an_error_of_ours_and_a_keyboard_interrupt():
    for kind in (jaxrec.JaxrecError, KeyboardInterrupt):
        with pytest.raises(kind) as caught:
            raise jaxrec.Interrupted("interrupted; go on with: jaxrec resume r", 15)
        assert isinstance(caught.value, jaxrec.Interrupted)
        assert caught.value.exit_status == 143
        assert str(caught.value) == "interrupted; go on with: jaxrec resume r"
