"""What runs superpos as a platform: the stack's processes on one machine, its image, and the tools for both."""
