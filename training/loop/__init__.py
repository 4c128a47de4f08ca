"""Training itself: slots, the packed step that moves them all, and what resumes them."""
