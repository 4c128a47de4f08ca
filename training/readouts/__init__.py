"""Learned readouts in training: label vectors that train with a prompt, or alone on the frozen states."""
