"""How many bytes of arrays lie on one device, at every line of ours and within what saves them."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax

_OURS = str(Path(__file__).parents[1] / "jaxrec")
_SAVES = "orbax/checkpoint/"


def live(device: Any = None) -> int:
    """Bytes of all arrays on a device, each buffer once."""
    device = device or jax.local_devices()[0]
    found = {}
    for array in jax.live_arrays():
        with suppress(RuntimeError):  # another thread has let go of it meanwhile
            for shard in array.addressable_shards:
                if shard.device == device:
                    found[shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
    return sum(found.values())


class Meter:
    """The most bytes so far, and where they were met."""

    def __init__(self) -> None:
        self.most, self.where = 0, ""
        self.by: dict[str, int] = defaultdict(int)
        """The most while a function of ours ran, by its name; what it calls counts."""

    def look(self, frame: Any) -> None:
        bytes_now = live()
        if bytes_now > self.most:
            self.most = bytes_now
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        while frame is not None:
            if frame.f_code.co_filename.startswith(_OURS):
                name = frame.f_code.co_name
                self.by[name] = max(self.by[name], bytes_now)
            frame = frame.f_back


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure at every line of this package in this thread, and whenever a function of Orbax returns."""
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
        if file.startswith(_OURS):
            return lines
        if _SAVES in file:
            frame.f_trace_lines = False
            return returns
        return None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        yield meter
    finally:
        sys.settrace(before)
