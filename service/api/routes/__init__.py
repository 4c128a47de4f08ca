"""Routes, one module per protocol or resource. A handler converts JSON to a call of the runtime and back."""
