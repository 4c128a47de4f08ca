"""Terminal output: progress displays and result tables. The commands decide what is shown when."""
