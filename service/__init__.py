"""HTTP to scheduler to model to answer. Uses `backbone` and `adapters`; never `training`."""
