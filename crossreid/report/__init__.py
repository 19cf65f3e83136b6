"""One HTML page, a table and averages from the files that runs leave in their folders."""

from crossreid.report.page import write
from crossreid.report.tables import average, write_table

__all__ = ["average", "write", "write_table"]
