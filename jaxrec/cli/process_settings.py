"""What a command sets for its whole process, and what the library leaves as it finds it."""

import logging

_FOREIGN = ("absl", "asyncio", "concurrent.futures")


def own_process() -> None:
    """Silence the loggers below Orbax and keep compiled programs, as only the command line may.

    In somebody else's process the same would outlive the call: there loggers and JAX's settings
    are the host's.
    """
    # They log tracebacks of a failed write that is reported in a line or two.
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from jaxrec import compilation

    compilation.use_cache()
