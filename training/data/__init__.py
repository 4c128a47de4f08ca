"""Labelled rows: read, told apart by label, split, checked, and drafted into a task file."""
