"""Checks of a task's rows and labels: errors that would stop training, and warnings about data that harms it."""
