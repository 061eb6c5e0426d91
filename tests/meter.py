"""Measure the bytes of arrays on one device at every line of code that handles whole states."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

_OURS = Path(__file__).parents[1] / "jaxrec"
_OWN = ("checkpoint", "loop", "monitor", "problem", "results", "run", "step")
_PLACED = ("device", "host_table", "mesh")
_LINES = {str(_OURS / "training" / f"{name}.py") for name in _OWN}
_LINES |= {str(_OURS / "training" / "placement" / f"{name}.py") for name in _PLACED}
_LINES |= {str(_OURS / "graph" / "spectral.py"), str(_OURS / "evaluation" / "scorers.py")}
assert all(Path(file).is_file() for file in _LINES)
_RETURNS = "orbax/checkpoint/_src/serialization/"


def live(device: Any = None) -> int:
    """Return the bytes of all arrays on a device, counting each buffer once."""
    device = device or jax.local_devices()[0]
    found = {}
    for array in jax.live_arrays():
        with suppress(RuntimeError):  # the array was freed meanwhile
            if array.sharding.num_devices == 1:
                if device in array.devices():
                    found[array.unsafe_buffer_pointer()] = array.nbytes
                continue
            for shard in array.addressable_shards:
                if shard.device == device:
                    found[shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
    return sum(found.values())


class Meter:
    """The most bytes so far, and the line at which they were measured."""

    def __init__(self) -> None:
        self.most, self.where = 0, ""
        self.by: dict[str, int] = defaultdict(int)
        """The most bytes while each function ran, by its name, including the functions it calls."""

    def look(self, frame: Any) -> None:
        n_bytes = live()
        if n_bytes > self.most:
            self.most = n_bytes
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        while frame is not None:
            if frame.f_code.co_filename in _LINES:
                name = frame.f_code.co_name
                self.by[name] = max(self.by[name], n_bytes)
            frame = frame.f_back


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure in this thread at every line of jaxrec's listed files, and when Orbax returns."""
    meter = Meter()

    def lines(frame: Any, event: str, _: Any) -> Any:
        if event in ("line", "return"):
            meter.look(frame)
        return lines

    def returns(frame: Any, event: str, _: Any) -> Any:
        if event == "return":
            meter.look(frame)
        return returns

    def calls(frame: Any, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        if file in _LINES:
            return lines
        if _RETURNS in file:
            frame.f_trace_lines = False
            return returns
        return None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        yield meter
    finally:
        sys.settrace(before)
