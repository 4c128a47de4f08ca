"""What is wrong with a task's rows: every fault that training would stop at, and what it would learn badly from."""
