"""Task files: label words, template, data sources, metrics, and the grids of ordinal tasks."""
