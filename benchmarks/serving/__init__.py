"""Benchmarks of a server over HTTP, against the engine alone and against peers, and of fairness."""

from service.cores import spin_briefly

spin_briefly()  # before torch is imported: threads of this process's engine then wait as the server's do
