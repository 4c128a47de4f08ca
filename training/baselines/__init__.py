"""Baselines: simpler classifiers, fitted on the rows of a run and measured on its report rows.

`fitting` fits them once for each set of rows, `bag_of_words`, `frozen_head` and `strength` are their parts, and
`comparison` measures a run against them.
"""
