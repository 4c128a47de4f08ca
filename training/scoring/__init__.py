"""Evaluation of prompts: predictions, metrics with confidence intervals, calibration and robustness."""
