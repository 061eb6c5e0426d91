"""Test the notebooks: each runs as a plain script, on small data, in a fresh folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAYS = {
    "shop": ("60 customers, 40 articles", "recall@20: "),
    "films": ("80 users, 60 films", "Film "),
    "own_model": ("own 0.", "LightGCN 0."),
}
PAGES = sorted((ROOT / "scripts" / "notebooks").glob("*.py"))


def test_every_notebook_is_run():
    assert {page.stem for page in PAGES} == set(SAYS)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_runs_from_top_to_bottom(page, tmp_path):
    done = subprocess.run(
        [sys.executable, page],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SMALL": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(words in done.stdout for words in SAYS[page.stem]), done.stdout
    text = page.read_text()
    assert text.startswith("# %% [markdown]\n# # ")
    assert "\n# %%\n" in text
