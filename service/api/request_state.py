"""Names of entries of a request's state that the server reads too. Imports nothing, since the server starts with it."""

TENANT = "tenant"
"""The tenant whose valid key the request has sent, from the start of the response; None without one."""
