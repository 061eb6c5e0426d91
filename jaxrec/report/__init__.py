"""Run folders -> one self-contained HTML page."""

from jaxrec._packages import make_callable
from jaxrec.report.page import report

__all__ = ["report"]

make_callable(__name__, "jaxrec.report.page", "report")
