#!/usr/bin/env python3
"""Run N processes of one jaxrec run on this machine, over loopback, and watch over them.

    scripts/launch_local.py N train lightgcn --run RUN --mesh.data D --mesh.table T ...
    scripts/launch_local.py N resume RUN

Arguments after N are those of `jaxrec`; each process also gets --mesh.coordinator, --mesh.processes
and --mesh.process-id. D x T must be all devices of all processes: of a CPU one each
(JAX_NUM_CPU_DEVICES makes more), of a machine's GPUs those that each process sees.

When one process ends badly the others cannot go on: they have GRACE_SECONDS to end by themselves,
and are killed then. One that stands still, or is cut off from the first, is found out by JAX after
--mesh.silent-seconds (60), which ends the others, and they the job. SIGTERM and SIGINT go to all
processes, which write one checkpoint and end. The exit status is that of the first process that
ended badly, 1 where a signal ended it.
"""

import signal
import socket
import subprocess
import sys
import time

GRACE_SECONDS = 5.0
SIGNALLED_SECONDS = 120.0  # to write a checkpoint after SIGTERM or SIGINT


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(count: int, args: list[str]) -> list[subprocess.Popen]:
    """The processes, the first one first."""
    where = f"127.0.0.1:{free_port()}"
    own = ["--mesh.coordinator", where, "--mesh.processes", str(count), "--mesh.process-id"]
    command = [sys.executable, "-m", "jaxrec", *args, *own]
    # A session each, so that a terminal's SIGINT reaches them once, through us.
    return [subprocess.Popen([*command, str(n)], start_new_session=True) for n in range(count)]


def supervise(processes: list[subprocess.Popen]) -> int:
    """Wait for all; the exit status."""
    asked: list[int] = []

    def forward(number: int, frame: object) -> None:
        asked.append(number)
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    bad: tuple[int, int] | None = None
    until = float("inf")
    stuck: set[int] = set()
    while any(process.poll() is None for process in processes):
        ended = [(n, p.returncode) for n, p in enumerate(processes) if p.poll() is not None]
        failed = [(n, status) for n, status in ended if status != 0]
        if failed and bad is None:
            bad = failed[0]
            interrupted = bool(asked) or bad[1] in (130, 143)
            until = time.monotonic() + (SIGNALLED_SECONDS if interrupted else GRACE_SECONDS)
        if time.monotonic() > until:
            for n, process in enumerate(processes):
                if process.poll() is None:
                    stuck.add(n)
                    process.kill()
        time.sleep(0.05)
    if bad is None:
        bad = next(((n, p.returncode) for n, p in enumerate(processes) if p.returncode), None)
    if bad is None:
        return 0
    n, status = bad
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    ended = ", ".join(f"{process} was killed" for process in sorted(stuck)) or "all have ended"
    print(f"launch_local: process {n} of {len(processes)} {how}; {ended}", file=sys.stderr)
    return 1 if status < 0 else status


def main() -> int:
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    return supervise(start(int(sys.argv[1]), sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
