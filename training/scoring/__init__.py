"""Scoring of a prompt's answers: metrics, intervals, calibration, and the predictions that they need."""
