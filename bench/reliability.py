"""What clusters and disks do to a run: each fault with the real command, and 10,000 broken inputs.

Runs the tests of these faults and records what each of them met; a line is a fault.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

from bench.common import record

COMMAND = "python -m bench reliability"
TESTS = Path(__file__).parents[1] / "tests"
FAULTS = {
    "a full disk during save": [
        "test_reliability.py::test_a_disk_that_is_full",
        "train/test_resume.py::test_a_full_disk",
    ],
    "a checkpoint's shard: a flipped bit, cut short, missing": [
        "train/test_resume.py::test_a_damaged_checkpoint"
    ],
    "a truncated entry of the compilation cache": [
        "test_compilation.py::test_a_second_run_compiles_nothing_and_a_broken_entry_is_replaced",
        "test_compilation.py::test_repair",
    ],
    "a read-only folder": ["test_reliability.py::test_a_folder"],
    "two runs started on one folder": [
        "train/test_resume.py::test_of_two_processes",
        "train/test_resume.py::test_a_folder_that_another_process_holds",
    ],
    "one of two processes stands still, or loses its link": [
        "test_hosts.py::test_a_process_that_falls_silent"
    ],
    "broken inputs to every reader, the configuration and its options": ["test_fuzz.py::"],
}
"""Tests by fault, by how their names begin."""


class _Collected:
    """What pytest says of each test."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}
        self.told: dict[str, dict[str, Any]] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        wanted = [name for names in FAULTS.values() for name in names]
        items[:] = [item for item in items if any(name in item.nodeid for name in wanted)]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome == "failed":
            self.passed[report.nodeid] = report.outcome == "passed"
            self.told[report.nodeid] = dict(report.user_properties)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    args = parser.parse_args()
    os.environ["JAXREC_FUZZ"] = str(args.inputs)
    import pytest

    files = {name.split("::")[0] for names in FAULTS.values() for name in names}
    collected, began = _Collected(), time.perf_counter()
    paths = [str(TESTS / file) for file in sorted(files)]
    pytest.main(["-n", "0", "-p", "no:cacheprovider", *paths], plugins=[collected])
    for fault, names in FAULTS.items():
        own = [t for t in collected.passed if any(name in t for name in names)]
        told = [collected.told[test] for test in own]
        extra: dict[str, Any] = {
            what: sum(t[what] for t in told)
            for what in ("inputs", "refused")
            if any(what in t for t in told)
        }
        happened = [t["happened"] for t in told if "happened" in t]
        if happened:
            extra["happened"] = happened
        record(
            "reliability",
            fault,
            [float(collected.passed[test]) for test in own],
            "1 where a test of it passed, else 0",
            COMMAND,
            passed=sum(collected.passed[test] for test in own),
            tests=len(own),
            **extra,
        )
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
