"""Input files by format: reading rows in parts, and writing the parts with more columns."""
