"""Drafts of task files: analysis of the columns, guesses with their reasons, and the text of the file."""
