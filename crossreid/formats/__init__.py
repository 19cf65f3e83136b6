"""Files of other programs: read and written without running them, and without knowing any layer."""
