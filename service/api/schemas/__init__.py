"""The JSON of every route as pydantic models, one module per group of routes. Field docstrings are shown in `/docs`."""
