"""Test that XLA knows the flags that this repository uses, and that unknown flags are reported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import xla

ROOT = Path(__file__).parents[1]
UNKNOWN = "--xla_no_such_flag=1"
FLAG = re.compile(r"--xla_\w+(?:=\w+)?")


@pytest.mark.long
def test_flags_that_xla_does_not_know_are_left_out():
    known = "--xla_force_host_platform_device_count=2"
    assert xla.with_known("", known, UNKNOWN) == known
    with pytest.raises(ValueError, match="no_such_flag"):
        xla.with_known(UNKNOWN, known)


def test_every_flag_that_people_are_told_of_is_known():
    texts = [ROOT / "README.md", *ROOT.glob("scripts/*"), *ROOT.glob("bench/*.py")]
    texts += [*ROOT.glob("jaxrec/**/*.py"), *ROOT.glob(".ci/*")]
    named = {flag for path in texts if path.is_file() for flag in FLAG.findall(path.read_text())}
    assert {flag: xla.refusal(flag) for flag in sorted(named)} == dict.fromkeys(named)


@pytest.mark.long
def test_the_suite_says_why_it_cannot_begin_under_an_unknown_flag():
    env = {name: value for name, value in os.environ.items() if "XLA_FLAGS" not in name}
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "--collect-only"]
    done = subprocess.run(
        [*command, str(ROOT / "tests" / "test_hashed_random.py")],
        cwd=ROOT,
        env=env | {"XLA_FLAGS": UNKNOWN},
        capture_output=True,
        text=True,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.search(r"XLA refuses XLA_FLAGS='--xla_no_such_flag=1'.*Unknown flag", done.stderr)
    assert "Traceback" not in done.stderr
