"""Test a real server process: its address, requests and shutdown."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from made_run import write_embeddings
from processes import environment

from jaxrec.cli.serve import serve
from jaxrec.errors import InputError

pytest.importorskip("uvicorn", reason="the server needs the extra `serve`")


@pytest.mark.long
def test_a_server_says_where_it_is_answers_and_ends(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", np.eye(2), np.eye(2)[[0, 0, 1]], [[0], []])
    command = [sys.executable, "-m", "jaxrec", "serve", str(run), "--port", "0", "--max-k", "5"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    assert server.stderr is not None
    heard: list[str] = []

    def line(part: str) -> str:
        """Return the next line that contains ``part``."""
        assert server.stderr is not None
        for text in server.stderr:
            heard.append(text)
            if part in text:
                return text
        raise AssertionError(heard)

    try:
        address = line(" on http://127.0.0.1:").split(" on ")[1].split()[0]
        with urllib.request.urlopen(f"{address}/recommend?user=u0&k=1", timeout=60) as answer:
            assert json.load(answer)["items"][0]["item"] == "i1"
        with urllib.request.urlopen(f"{address}/", timeout=60) as answer:
            assert b"<title>jaxrec" in answer.read()
        server.send_signal(signal.SIGHUP)
        assert "3 items" in line("now serving the new run")
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in "".join(heard) + server.stderr.read()
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "0", "--host", "256.1.1.1"], "no such address"),
        (["--port", "0", "--host", "192.0.2.1", "--token-file", "token"], "cannot be bound"),
        (["--token-file", "nothing"], "write the token into it"),
        (["--titles", "nothing.csv"], "nothing.csv"),
    ],
)
def test_what_cannot_be_served_is_refused(
    tmp_path: Path, options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_embeddings(tmp_path / "run", np.eye(2), np.eye(2))
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("secret\n")
    with pytest.raises(InputError, match=said):
        serve([str(run), *options])


def test_the_extra_is_named_where_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["jaxrec.cli.serve"]
    monkeypatch.setattr(module, "_NEEDED", ("no_such_package",))
    with pytest.raises(InputError, match=r"jaxrec\[serve\]"):
        module.serve([str(tmp_path)])
