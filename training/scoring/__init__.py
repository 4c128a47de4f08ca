"""What a prompt's answers are worth: metrics, intervals, calibration, and how they are come by."""
