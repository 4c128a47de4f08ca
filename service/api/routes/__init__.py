"""The HTTP routes: each handler reads a request, calls one use case, and shapes its answer."""
