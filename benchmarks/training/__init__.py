"""Benchmark of training against PEFT under the Hugging Face Trainer."""
