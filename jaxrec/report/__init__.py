"""Run folders -> one self-contained HTML page."""

from jaxrec.report.page import report

__all__ = ["report"]
