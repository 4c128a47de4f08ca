"""The web console at `/console`: pages for people, on top of the HTTP API.

`app.py` routes, `access.py` signs people in, `sessions.py` keeps their sessions, `api.py` calls the API in this process
with a session's principal, `pages.py` renders. Each page is a module of `views/`.
"""
