"""Tenants, their keys and their quotas."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile
from service.log_trimmer import LogTrimmer, Pause
from service.settings import Settings
from service.tenancy.account_cache import AccountCache
from service.tenancy.accounts import Accounts, open_accounts
from service.tenancy.admin_key import LockoutWarning, ensure_admin_key, migrate_roles
from service.tenancy.quotas import Quotas
from service.tenancy.rate_limiter import FallbackRateCounter, LocalRateCounter, RateCounter
from service.tenancy.refusals import RefusalAudit
from service.tenancy.shared_counter import WorkersRateCounter


@dataclass(frozen=True, slots=True)
class TenancyGroup:
    """Accounts and their limits."""

    accounts: Accounts
    account_cache: AccountCache
    quotas: Quotas
    refusals: RefusalAudit
    audit_trimmer: LogTrimmer


def build_tenancy(
    settings: Settings, storage: Storage, *, pause: Callable[[], Pause], workers_folder: Path | None = None
) -> TenancyGroup:
    """Open the accounts of a registry, and store the operator's key of the settings if it is new.

    Args:
        settings: all settings
        storage: where accounts are stored
        pause: for the trimmer of the audit log
        workers_folder: a folder of the workers of this server; None if this process is the only one

    Raises:
        InvalidName: that key is malformed, or its file is unreadable
        RegistryUnavailable: the accounts cannot be read or written
    """
    accounts = open_accounts(storage)
    migrate_roles(accounts)
    ensure_admin_key(accounts, settings.admin_key, settings.admin_key_file)
    lockout = LockoutWarning()
    account_cache = AccountCache(
        accounts.store,
        poll_interval_s=settings.poll_interval_s,
        max_age_s=settings.accounts_max_age_s,
        on_change=lockout.check if settings.require_keys else lambda _: None,
    )
    quotas = Quotas(
        account_cache.tenant,
        open_rate_counter(storage, workers_folder),
        max_key_changes_per_hour=settings.max_key_changes_per_hour,
    )
    audit_trimmer = LogTrimmer(
        "audit",
        position=lambda: account_cache.revision,
        trim=lambda keep, yield_now: accounts.trim_audit(keep=keep, pause=yield_now),
        keep=settings.max_audit_entries,
        pause=pause,
    )
    return TenancyGroup(
        accounts=accounts,
        account_cache=account_cache,
        quotas=quotas,
        refusals=RefusalAudit(accounts),
        audit_trimmer=audit_trimmer,
    )


def open_rate_counter(storage: Storage, workers_folder: Path | None = None) -> RateCounter:
    """Return the counter of a server: shared by all replicas in Redis, with a SQLite registry by its workers."""
    if not isinstance(storage, SqliteFile):
        from service.tenancy.redis_rate_counter import OUTAGES, RedisRateCounter  # noqa: PLC0415 - as `open_storage`

        return FallbackRateCounter(RedisRateCounter(storage), outages=OUTAGES)
    if workers_folder is not None:
        return FallbackRateCounter(WorkersRateCounter(workers_folder / "limits.sqlite"))
    return LocalRateCounter()
