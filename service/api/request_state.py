"""Names of entries of a request's state that the server reads too. Imports nothing, since the server starts with it."""

REQUEST_ID_PATTERN = r"[A-Za-z0-9._:/+=-]{1,128}"
"""Pattern of ids that callers choose. Others are replaced by random ones."""
TENANT = "tenant"
"""The tenant whose valid key the request has sent, from the start of the response; None without one."""
