"""Capacity planning: `superpos size`.

`coefficients` has what a batch, a request and an adapter cost on a machine, `measuring` measures it, `latency` computes
the waiting time of one replica, and `plan` the replicas, memory and autoscaling targets of a workload.
"""
