"""Labelled rows: their sources and formats, splits and folds, checks before training, and drafts of task files."""
