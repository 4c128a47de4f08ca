"""Attacks on a real server by tenants, their administrators and anonymous neighbours; none may succeed."""
