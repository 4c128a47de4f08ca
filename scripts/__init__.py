"""Development scripts: the prose check and the training of the bundled adapters."""
