"""From labelled rows to an adapter: task files, data, methods, the loop, evaluation, run folder and card."""
