"""Training jobs: what tenants ask trainers for, kept in the shared storage with its rows until a job ends.

`superpos trainer` does the work in a process of its own; nothing here imports training code.
"""
