"""The GPU kit: one command that measures everything that needs a CUDA device, and the weights that it brings along."""
