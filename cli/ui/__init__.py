"""Tables and live displays of commands. Nothing here computes results."""
