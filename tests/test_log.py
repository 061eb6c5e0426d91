import pytest
from rich.console import Console

from jaxrec import log
from jaxrec.log import Reporter


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (9000, "2.5 h")],
)
def test_off_a_terminal_a_line_tells_now_and_then_what_is_left(seconds, text, monkeypatch, capsys):
    monkeypatch.setattr(log.time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(log, "_TELL_SECONDS", 0.1)
    reporter = Reporter()
    reporter.begin("search", 100, 300)
    monkeypatch.setattr(log.time, "monotonic", lambda: seconds)
    reporter.advance(200, "loss 1.0")  # half of the steps are done
    told = capsys.readouterr().out
    assert told == f"search step 200/300  loss 1.0  about {text} left\n"
    monkeypatch.setattr(log, "_TELL_SECONDS", 1e9)
    reporter.advance(250, "loss 0.9")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("width", "part"),
    [
        (80, "│ lightgcn │    0.1234 │ 0.2345 │\n"),
        (30, "│ recall@20 │   0.1234 │\n│ [ndcg]    │   0.2345 │\n"),
        (22, "\n  lightgcn\n    recall@20  0.1234\n    [ndcg]     0.2345\n"),
    ],
)
def test_a_table_that_is_too_wide_for_a_terminal_is_turned_or_cut_in_blocks(width, part, capsys):
    reporter = Reporter()
    reporter.console = Console(force_terminal=True, width=width, color_system=None)
    header, rows = ["model", "recall@20", "[ndcg]"], [["lightgcn", "0.1234", "0.2345"]]
    reporter.table("test: 9 users", header, rows)
    told = capsys.readouterr().out
    assert part in told
    assert all(len(line) <= width for line in told.splitlines())
