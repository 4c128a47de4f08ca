"""Tenants, keys and audit entries as JSON, the one form in which every store keeps them."""

from pydantic import TypeAdapter

from service.accounts import AuditEntry, KeyInfo, TenantInfo

TENANT = TypeAdapter(TenantInfo)
KEY = TypeAdapter(KeyInfo)
ENTRY = TypeAdapter(AuditEntry)
