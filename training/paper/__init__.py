"""The tables and the figure of the SuperPos-Prompt paper: what it published, and the same grids run here."""
