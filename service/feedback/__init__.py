"""Texts that tenants keep, and corrections of the answers to them: stored, listed, exported, deleted.

Only a tenant that has opted in keeps texts: the operator sets its `retention_days`.
"""
