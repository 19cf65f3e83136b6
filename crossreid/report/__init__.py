"""One HTML page, figures, a table and averages from the files that runs leave in their folders.

page       the page; section: one part of it
figure     a matplotlib figure with its data and files; plots, images: functions that return one
tables     results of runs, of groups of repeated runs (groups), as text, CSV and LaTeX
"""

from crossreid.report.page import Choice, write
from crossreid.report.tables import average, check_table, save_table, write_table

__all__ = ["Choice", "average", "check_table", "save_table", "write", "write_table"]
