"""One file for each command; a command only turns its words into one call of the library."""
