"""The training loop: jobs, their progress, the packed step that advances all of them, and the checkpoints."""
