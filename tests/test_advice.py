"""Test that the advice in error messages works: after following it, the command is accepted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from jaxrec import cli
from jaxrec.errors import InputError

PAIRS = [(user, item) for user in range(30) for item in range(20) if (user * 7 + item * 3) % 4 < 2]
SMALL = "--model.dim 4 --train.epochs 1 --eval.k 5 --run run"


def table(header: str, *more: Callable[[int], object], sep: str = ",", first: str = "") -> str:
    """Write the pairs as a table; ``more`` give further cells, ``first`` is an extra line."""
    lines = [header, first]
    for number, (user, item) in enumerate(PAIRS):
        cells = [f"u{user}", f"i{item}", *(cell(number) for cell in more)]
        lines.append(sep.join(map(str, cells)))
    return "".join(f"{line}\n" for line in lines if line)


OBJECTS = [{"user": f"u{user}", "item": f"i{item}"} for user, item in PAIRS]
FILES = {
    "good.csv": table("user,item"),
    "rated.csv": table("user,item,rating", lambda n: 1 + n % 5),
    "odd.csv": table("zeta,eta"),
    "half.csv": table("client;produit", sep=";"),
    "short.csv": table("user,item,rating", lambda n: 3, first="u1,i1"),
    "when.csv": table("user,item,time", lambda n: f"{1 + n % 28:02d}#{1 + n % 12:02d}#2021"),
    "dated.csv": table("user,item,stamp", lambda n: 10**9 + n),
    "minus.csv": table("user,item,weight", lambda n: -1 if n == 3 else 2),
    "events.csv": table("user,item,event", lambda n: "view" if n % 3 else "buy"),
    "items.csv": "item,price\n" + "".join(f"i{i},{i}\n" for i in range(25)),
    "plain.data": "".join(f"{user} {item}\n" for user, item in PAIRS),
    "both.csv": "".join(f"u{user},i{item};x\n" for user, item in PAIRS),
    "array.json": json.dumps(OBJECTS),
    "array.jsonl": "".join(f"{json.dumps(one)}\n" for one in OBJECTS),
    "two/a.csv": table("user,item"),
    "two/b.csv": table("user,item"),
    "split/train.txt": "".join(f"{user} 1 2 3\n" for user in range(20)),
    "split/test.txt": "0 3 4\n1 5\n",
    "latin.csv": table("user,item", first="José,café"),
}


class Case(NamedTuple):
    """A command that is refused, the advice in its message, and the command as advised."""

    refused: str
    advice: str
    accepted: str


CASES = [
    Case(
        "data stats odd.csv",
        "--columns.user NAME --columns.item NAME",
        "data stats odd.csv --columns.user zeta --columns.item eta",
    ),
    Case("data stats odd.csv", "--no-header", "data stats odd.csv --no-header"),
    Case(
        "data stats half.csv",
        "--columns.item NAME",
        "data stats half.csv --columns.item produit",
    ),
    Case("data stats short.csv", "--skip-bad-lines", "data stats short.csv --skip-bad-lines"),
    Case("data stats latin.csv", "--encoding latin-1", "data stats latin.csv --encoding latin-1"),
    Case("data stats when.csv", "--columns.time ''", "data stats when.csv --columns.time="),
    Case("data stats when.csv", "--time-format", "data stats when.csv --time-format %d#%m#%Y"),
    Case("data stats minus.csv", '--columns.weight ""', "data stats minus.csv --columns.weight="),
    Case("data stats both.csv", "--separator comma", "data stats both.csv --separator comma"),
    Case("data stats array.json", "jq -c '.[]'", "data stats array.jsonl"),
    Case("data stats two", "two/*.csv", "data stats two/*.csv"),
    Case("data stats plain.data", "--format", "data stats plain.data --format lightgcn"),
    Case("data stats good.csv --format csw", "csv", "data stats good.csv --format csv"),
    Case(
        "data stats events.csv --event-weights buy=1",
        "--event-weights",
        "data stats events.csv --event-weights buy=1 view=0",
    ),
    Case(
        "data import good.csv --out two",
        "name a new or an empty folder",
        "data import good.csv --out new",
    ),
    Case(
        "data import good.csv --items items.csv --out new",
        "--cold-items",
        "data import good.csv --items items.csv --cold-items --out new",
    ),
    Case(
        "data synth --users 10 --items 5 --edges 1000 --out new",
        "[10, 12]",
        "data synth --users 10 --items 5 --edges 12 --out new",
    ),
    Case("train quikstart", "'quickstart'", f"train quickstart --data good.csv {SMALL}"),
    Case(
        f"train mf --data good.csv --model.dmi 4 {SMALL}",
        "'--model.dim'",
        f"train mf --data good.csv {SMALL}",
    ),
    Case(
        f"train mf --data good.csv --loss.name brp {SMALL}",
        "'bpr'",
        f"train mf --data good.csv --loss.name bpr {SMALL}",
    ),
    Case(
        f"train mf --data good.csv --loss.name mse {SMALL}",
        "softmax, which need none",
        f"train mf --data good.csv --loss.name softmax {SMALL}",
    ),
    Case(
        f"train mf --data good.csv {SMALL} --eval.k 100",
        "at most 50",
        f"train mf --data good.csv {SMALL} --eval.k 50",
    ),
    Case(
        f"train mf --data good.csv --split.test 0.95 {SMALL}",
        "--split.no-per-user",
        f"train mf --data good.csv --split.test 0.95 --split.no-per-user {SMALL}",
    ),
    Case(
        f"train mf --data good.csv --split.test 0.95 {SMALL}",
        "--eval.select-on none",
        f"train mf --data good.csv --split.test 0.95 --eval.select-on none {SMALL}",
    ),
    Case(
        f"train mf --data good.csv --split.validation 0 {SMALL}",
        "--split.validation above 0",
        f"train mf --data good.csv --split.validation 0.1 {SMALL}",
    ),
    Case(
        f"train mf --data dated.csv --split.name temporal {SMALL}",
        "jaxrec data import ... --columns.time NAME",
        "data import dated.csv --columns.time stamp --out new",
    ),
    Case(
        f"train mf --data latin.csv {SMALL}",
        "--encoding latin-1 (give that option to `jaxrec data import`",
        "data import latin.csv --encoding latin-1 --out new",
    ),
    Case(
        f"train mf --data good.csv --split.name temporal {SMALL}",
        "--split.name random",
        f"train mf --data good.csv --split.name random {SMALL}",
    ),
    Case(
        f"train mf --data split --split.repeats refuse {SMALL}",
        "--split.repeats drop",
        f"train mf --data split --split.repeats drop {SMALL}",
    ),
    Case(
        f"train mf --data good.csv --model.layers 2 {SMALL}",
        "model.layers must be 0",
        f"train mf --data good.csv --model.layers 0 {SMALL}",
    ),
    Case(
        f"train mf --data good.csv --mesh.table 64 {SMALL}",
        "and there are 8",
        f"train mf --data good.csv --mesh.table 8 {SMALL}",
    ),
    Case(
        "plan --users 100000000 --items 10000000 --edges 1000000000 --devices 1xH100",
        "--mesh.data 1 --mesh.table 16",
        "plan --users 100000000 --items 10000000 --edges 1000000000 --devices 16xH100 "
        "--mesh.data 1 --mesh.table 16",
    ),
    Case("evaluate run", "jaxrec train --run run", f"train mf --data good.csv {SMALL}"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "latin-1" if name == "latin.csv" else "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(line: str) -> int | None:
    name, *args = line.split()
    return cli.COMMANDS[name](args)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.refused} -> {case.advice}")
def test_what_a_message_advises_works(case, folder):
    with pytest.raises(InputError) as caught:
        command(case.refused)
    assert case.advice in str(caught.value)
    command(case.accepted)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return a finished run with embeddings of width four."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "good.csv").write_text(FILES["good.csv"])
    command(f"train mf --data {folder}/good.csv {SMALL} --run {folder}/run --seed 3")
    return folder / "run"


OF_A_RUN = [
    Case("train mf --data {data} --run {run}", "jaxrec resume {run}", "resume {run}"),
    Case(
        f"train mf --data {{data}} {SMALL} --run {{copy}}",
        "--overwrite",
        f"train mf --data {{data}} {SMALL} --run {{copy}} --overwrite",
    ),
    Case(
        "recommend {run} --users klient.csv --out out.csv",
        "rename the right one to `user`",
        "recommend {run} --users ids.csv --out out.csv",
    ),
    Case(
        f"train mf --data {{data}} --warm-start {{run}} {SMALL} --model.dim 8",
        "--config {run}/config.json",
        "train --config {run}/config.json --warm-start {run} --run new",
    ),
    Case(
        f"train mf --data {{data}} --model.frozen-items {{run}} {SMALL} --model.dim 8",
        "--model.dim 4",
        f"train mf --data {{data}} --model.frozen-items {{run}} {SMALL} --model.dim 4",
    ),
    Case(
        "similar {run} --items i199 --unknown fail",
        "(did you mean 'i19'?)",
        "similar {run} --items i19",
    ),
    Case(
        "compare {run} {copy}",
        "name only one",
        "compare {run} {other}",
    ),
]


@pytest.mark.parametrize("case", OF_A_RUN, ids=lambda case: f"{case.refused} -> {case.advice}")
def test_what_a_message_about_a_run_advises_works(case, run, folder, tmp_path_factory):
    shutil.copytree(run, folder / "copy")
    (folder / "ids.csv").write_text("user\nu1\nnobody\n")
    (folder / "klient.csv").write_text("klient,x\nu1,1\nnobody,2\n")
    places = {"run": run, "data": run.parent / "good.csv", "copy": folder / "copy"}
    if "{other}" in case.accepted:
        command(f"train mf --data {places['data']} {SMALL} --run other --seed 3 --train.epochs 2")
    places["other"] = folder / "other"
    with pytest.raises(InputError) as caught:
        command(case.refused.format(**places))
    assert case.advice.format(**places) in str(caught.value)
    command(case.accepted.format(**places))
