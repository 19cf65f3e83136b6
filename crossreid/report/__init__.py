"""One HTML page, figures, a table and averages from the files that runs leave in their folders."""

from crossreid.report.page import Choice, write
from crossreid.report.tables import average, write_table

__all__ = ["Choice", "average", "write", "write_table"]
