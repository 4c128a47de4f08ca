"""Comparisons and counts of live traffic: drift against held-out rows, shadow versions, usage for charge-back."""
