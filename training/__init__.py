"""From labelled rows to an adapter: rows, methods, the stack that trains them, scoring, runs, reports."""
