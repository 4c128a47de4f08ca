"""Training itself: jobs, the packed step that moves them all, and what resumes them."""
