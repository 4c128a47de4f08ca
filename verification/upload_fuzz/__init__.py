"""Fuzzer of uploads: mutates valid uploads, sends them to a server, and judges each response."""
