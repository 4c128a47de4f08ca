"""Training compared: its speed with PEFT's, and the accuracy of readouts, prompts and numbers of rows."""
