"""Arguments of a training run, their choices, and presets."""
