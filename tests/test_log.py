import pytest

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
