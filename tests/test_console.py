"""Test how lines are printed on a terminal and elsewhere."""

import os
import sys

import pytest

from jaxrec.cli import console

LINES = ["short", "  memory of a device: 9.69 GB (table and optimizer 1.32 GB, graph 722 MB)"]


@pytest.mark.parametrize("terminal", [True, False])
def test_long_lines_are_broken_between_words_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    size = os.terminal_size((40, 24))
    monkeypatch.setattr(console.shutil, "get_terminal_size", lambda: size)
    console.print_lines(LINES)
    told = capsys.readouterr().out.splitlines()
    if terminal:
        assert all(len(line) <= 40 for line in told)
        assert told[2].startswith(" " * 10 + "optimizer 1.32")
        assert " ".join(" ".join(told[1:]).split()) == LINES[1].strip()
    else:
        assert told == LINES
