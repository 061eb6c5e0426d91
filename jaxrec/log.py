"""Logs of a run: metrics.jsonl, timing.jsonl, the console, and optional trackers."""

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jaxrec.config import LogConfig
from jaxrec.errors import InputError
from jaxrec.runfolder import read_metrics
from jaxrec.trackers import Energy, check_extras, metric_name, sinks

_TELL_SECONDS = 30.0  # time between progress lines if there is no terminal
_FOR_STEPS = 130  # least width of a terminal, in characters, for a long bar and numbers of steps
_WIDEST = 10_000  # width, in characters, at which a table is measured without wrapping


class RunLog:
    """The logs of one run: metrics.jsonl, timing.jsonl and experiment trackers.

    Args:
      run: the run folder.
      keep_bytes: length of metrics.jsonl at the checkpoint; the file is first truncated to it.
      writes: whether to write files. It is False in all processes but the first; they keep records
        in memory only.

    Raises:
      InputError: an extra is missing (:func:`check_extras`), or metrics.jsonl is shorter than the
      checkpoint says.
    """

    def __init__(
        self, run: Path, config: LogConfig, keep_bytes: int = 0, writes: bool = True
    ) -> None:
        check_extras(config)
        self._path, self._writes = run / "metrics.jsonl", writes
        if keep_bytes and (not self._path.exists() or self._path.stat().st_size < keep_bytes):
            raise InputError(
                f"{self._path}: is shorter than at the checkpoint; restore it from a copy"
            )
        where = self._path if writes else Path(os.devnull)
        self._file = where.open("a", encoding="utf-8")
        if writes:
            self._file.truncate(keep_bytes)
        self.records: list[dict[str, Any]] = []
        if keep_bytes:
            self.records = read_metrics(self._path, keep_bytes)
        self._index = {(r["step"], r["split"]): r for r in self.records}
        timing = run / "timing.jsonl" if writes else where
        self._timing = timing.open("a", encoding="utf-8")
        self._began = time.perf_counter()
        self._doctor = config.doctor_series
        self._sinks = sinks(run, config) if writes else []
        self._energy = Energy(config.energy) if writes and config.energy is not None else None

    def record(self, step: int, epoch: float, split: str, phase: str, **values: float) -> None:
        """Append a line to metrics.jsonl, without wall times: equal runs write equal lines."""
        line = {"step": step, "epoch": round(epoch, 6), "split": split, "phase": phase} | values
        self.records.append(line)
        self._index[step, split] = line
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if split == "doctor" and not self._doctor:
            return
        numbers = {metric_name(split, k): float(v) for k, v in values.items()}
        for sink in self._sinks:
            sink.write(step, numbers)

    def find(self, step: int, split: str) -> dict[str, Any] | None:
        """Return the record of a split at a step, if any."""
        return self._index.get((step, split))

    def offset(self) -> int:
        """Flush metrics.jsonl to disk and return its length in bytes, for checkpoints."""
        self._file.flush()
        if not self._writes:
            return 0
        os.fsync(self._file.fileno())
        return self._path.stat().st_size

    def timing(self, step: int, **values: Any) -> None:
        """Append a line to timing.jsonl, with seconds since the start and peak memory."""
        line = {"step": step, "seconds": round(self.seconds(), 3)} | values
        line["peak_memory_mb"] = round(peak_memory() / 1e6, 1)
        self._timing.write(json.dumps(line) + "\n")
        self._timing.flush()

    def seconds(self) -> float:
        """Return the seconds of wall time since this process opened the log."""
        return time.perf_counter() - self._began

    def close(self) -> None:
        if self._energy is not None:
            last = self.records[-1]["step"] if self.records else 0
            self.timing(last, event="energy", **self._energy.stop())
        for sink in self._sinks:
            sink.close()
        self._file.close()
        self._timing.close()


def peak_memory(process: int | None = None) -> int:
    """Return the peak resident memory of a process in bytes, including memory-mapped pages.

    Args:
      process: number of the process; by default this one. If it has ended, the result is 0.
    """
    # ru_maxrss would include the parent's memory at the start of the process.
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if process is not None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def _minutes(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Reporter:
    """Shows progress: a bar on a terminal, plain lines elsewhere, and nothing if quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False)
        self._bar: Progress | None = None
        self._task: Any = None
        self._name, self._first, self._total = "", 0, 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def say(self, text: str) -> None:
        """Print a line."""
        if self.console.is_terminal:
            self.console.print(text, markup=False)
        elif not self.console.quiet:
            print(text, flush=True)  # print does not wrap lines

    def begin(self, name: str, step: int, total: int) -> None:
        """Start to show the progress of a phase of ``total`` steps, ``step`` of which are done."""
        self._name, self._first, self._total = name, step, total
        self._began = self._told = time.monotonic()
        if self.console.is_terminal or self.console.is_jupyter:
            # A narrow terminal shows no step numbers, but the note still shows the epoch.
            narrow = self.console.width < _FOR_STEPS
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(10 if narrow else 40),
                *([] if narrow else [MofNCompleteColumn()]),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task(name, total=total, completed=step, note="")
            self._bar.start()

    def advance(self, step: int, note: str) -> None:
        """Show that the phase has reached ``step``, with a note."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, note=note)
            return
        now = time.monotonic()
        if now - self._told < _TELL_SECONDS or step <= self._first:
            return
        self._told = now
        left = (now - self._began) / (step - self._first) * (self._total - step)
        self.say(f"{self._name} step {step}/{self._total}  {note}  about {_minutes(left)} left")

    def end(self) -> None:
        """End the phase: remove its progress bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def table(self, title: str, header: list[str], rows: list[list[str]]) -> None:
        """Print a table; all columns but the first are aligned to the right.

        On a terminal that is too narrow, rows and columns are exchanged. If that does not fit
        either, each row becomes a block with one line per cell.
        """
        if self.console.is_terminal:
            wide = self.console.options.update(width=_WIDEST)
            lines = [header, *rows]
            for cells in (lines, [list(column) for column in zip(*lines, strict=True)]):
                table = Table(title=title, title_justify="left")
                for i, name in enumerate(cells[0]):
                    table.add_column(Text(name), justify="left" if i == 0 else "right")
                for row in cells[1:]:
                    table.add_row(*map(Text, row))
                if self.console.measure(table, options=wide).maximum <= self.console.width:
                    self.console.print(table)
                    return
            self.say(title)
            names = max(map(len, header[1:]), default=0)
            for row in rows:
                self.say(f"  {row[0]}")
                for name, cell in zip(header[1:], row[1:], strict=True):
                    if cell:
                        self.say(f"    {name.ljust(names)}  {cell}")
            return
        self.say(title)
        widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            cells = [
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            self.say("  " + "  ".join(cells))
