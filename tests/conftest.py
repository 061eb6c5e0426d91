"""Make the whole test run strict: eight CPU devices, shape checks, no silent promotion."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import starts
import xla

# No deadlines: on a loaded machine, tests may be slow without any fault of the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Sharded code is tested on virtual devices, which must be requested before jax is imported.
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
_PROBED = "JAXREC_TESTS_XLA_FLAGS"  # passes the first process's flags to its children
if os.environ["JAX_PLATFORMS"] == "cpu":
    # Most programs run for less time than they take to compile. These options halve the time to
    # compile. Tests of real processes remove the options, so that they run what users run.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if _PROBED not in os.environ:
        given = os.environ.get("XLA_FLAGS", "")
        try:
            os.environ[_PROBED] = xla.with_known(given, "--xla_cpu_use_fusion_emitters=false")
        except ValueError as e:
            raise pytest.UsageError(f"XLA refuses XLA_FLAGS={given!r}: {e}") from e
    os.environ["XLA_FLAGS"] = os.environ[_PROBED]
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
# Many tests compile the same programs. A cache for all workers and their processes makes once per
# session enough; a folder given here keeps the programs for later sessions.
_FOLDER = "JAX_COMPILATION_CACHE_DIR"
if _FOLDER not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="jaxrec-tests-")
    os.environ[_FOLDER] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

from jaxtyping import install_import_hook

install_import_hook("jaxrec", "beartype.beartype")

import jax


@pytest.hookimpl(tryfirst=True)  # before `-m` selects tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if starts.starts_processes(item):
            item.add_marker("processes")
        kept = item.get_closest_marker("long_but")
        if kept is not None and hasattr(item, "callspec") and item.callspec.id not in kept.args:
            item.add_marker("long")


@pytest.fixture(autouse=True, scope="module")
def _programs_end_with_their_module():
    """Drop the compiled programs of each test module when the module ends.

    Every compiled program holds some memory maps. Those of a whole test run would exceed the
    kernel's limit of 65,530 per process, and LLVM would die of a segmentation fault.
    """
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def reports() -> Iterator[Callable]:
    """Let runs write no report.html, which takes as long as a small run.

    Tests that read a run's report train it ``with reports():``.
    """
    from jaxrec.training import results

    write = results.can_report

    @contextlib.contextmanager
    def reports() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(results, "can_report", write)
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "can_report", lambda: False)
        yield reports


@pytest.fixture
def registries():
    """Restore the registries after the test, so that its parts do not show in other tests."""
    from jaxrec import registry

    kinds = [kind for kind in vars(registry).values() if isinstance(kind, registry.Registry)]
    before = [dict(kind._found) for kind in kinds]
    yield
    for kind, found in zip(kinds, before, strict=True):
        kind._found.clear()
        kind._found.update(found)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data sets, or skip the test if the folder does not exist."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("JAXREC_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"real data not found: set JAXREC_DATA to its folder ({folder} is none)")
    return folder
