"""Task files drafted from rows: what the columns hold, what is guessed from it and why, and the file's text."""
