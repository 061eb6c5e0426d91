"""Change settings of the whole process for a command; the library must not change them."""

import logging

_LOGGERS = ("absl", "asyncio", "concurrent.futures")


def own_process() -> None:
    """Silence the loggers that Orbax uses, and cache compiled programs.

    Only the command line may call this function, because it changes the loggers and JAX's settings
    of the whole process.
    """
    # These loggers print tracebacks of failed writes, which jaxrec reports in a line or two.
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from jaxrec import compilation

    compilation.use_cache()
