"""Effects of cluster and disk failures on a run: real commands, and 10,000 broken inputs.

Runs the tests of these failures and records a line for each of them.
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
        "training/test_resume.py::test_a_full_disk",
    ],
    "a checkpoint's shard: a flipped bit, cut short, missing": [
        "training/test_resume.py::test_a_damaged_checkpoint"
    ],
    "a truncated entry of the compilation cache": [
        "test_compilation.py::test_a_second_run_compiles_nothing_and_a_broken_entry_is_replaced",
        "test_compilation.py::test_repair",
    ],
    "a read-only folder": ["test_reliability.py::test_a_folder"],
    "two runs started on one folder": [
        "training/test_resume.py::test_of_two_processes",
        "training/test_resume.py::test_a_folder_that_another_process_holds",
    ],
    "one of two processes stands still, or loses its link": [
        "test_processes.py::test_a_process_that_falls_silent"
    ],
    "broken inputs to every reader of data": ["test_fuzz.py::test_data_is_read"],
    "broken inputs to other files, the configuration and its options": [
        "test_fuzz.py::test_files_are_read",
        "test_fuzz.py::test_options_are_taken",
    ],
}
"""Tests by fault, given by how their names begin."""


class _Collected:
    """Collects pytest's reports on the tests of a fault."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.passed: dict[str, bool] = {}
        self.told: list[dict[str, Any]] = []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if any(name in item.nodeid for name in self.names)]

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome == "failed":
            self.passed[report.nodeid] = report.outcome == "passed"
            self.told.append(dict(report.user_properties))


def tried(fault: str) -> None:
    """Run the tests of a fault, and record their results."""
    import pytest

    found = _Collected(FAULTS[fault])
    files = {str(TESTS / name.split("::")[0]) for name in FAULTS[fault]}
    began, load = time.perf_counter(), os.getloadavg()
    pytest.main(["-n", "0", "-p", "no:cacheprovider", *sorted(files)], plugins=[found])
    extra: dict[str, Any] = {
        what: sum(told.get(what, 0) for told in found.told)
        for what in ("inputs", "refused")
        if any(what in told for told in found.told)
    }
    happened = [told["happened"] for told in found.told if "happened" in told]
    if happened:
        extra["happened"] = happened
    record(
        "reliability",
        fault,
        [float(passed) for passed in found.passed.values()],
        "1 where a test of it passed, else 0",
        COMMAND,
        passed=sum(found.passed.values()),
        tests=len(found.passed),
        seconds=time.perf_counter() - began,
        load_before=load,
        **extra,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    args = parser.parse_args()
    os.environ["JAXREC_FUZZ"] = str(args.inputs)
    for fault in args.faults:
        tried(fault)


if __name__ == "__main__":
    main()
