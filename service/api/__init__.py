"""HTTP: routes, their JSON, middleware, and the table of errors. Nothing below this package knows about HTTP."""
