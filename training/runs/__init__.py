"""Training runs: planning, execution in one stack or several processes, and the folder that each run leaves.

`plan` says what a run is, `executor` trains and scores runs, `run` holds the steps of a single run, `folder` and
`layout` its files, and `run_result` reads the results back.
"""
