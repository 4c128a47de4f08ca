"""Files scored by tasks: `superpos score`.

A job reads input files in parts (`scoring.files`), classifies their rows through the Python client (`scorer`), with a
server or in this process (`streaming`) or on workers of a cluster (`on_ray`), saves each part with its answers, and
joins the parts of a file when all are there (`job`). The manifest says what the answers are from, so that only the same
job resumes.
"""
