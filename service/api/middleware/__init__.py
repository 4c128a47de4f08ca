"""ASGI middleware, from the request's id to decompression. `create_app` puts the layers in order."""
