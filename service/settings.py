"""Settings of the server: read once from the environment (`SUPERPOS_…`) at the entry point, then passed as values."""

import os
import re
import warnings
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from adapters.names import nearest


def default_cache_dir() -> Path:
    """Return the default folder of converted backbones."""
    return platformdirs.user_cache_path("superpos")


def default_registry() -> Path:
    """Return the path of this user's SQLite registry."""
    return platformdirs.user_data_path("superpos") / "registry.sqlite"


PREFIX = "SUPERPOS_"
"""Every environment variable of the project begins with it, and no other may."""
SECRETS_DIR = "SUPERPOS_SECRETS_DIR"
_OTHER_VARIABLES = {
    SECRETS_DIR,
    "SUPERPOS_SERVER",  # of the commands that call a server
    "SUPERPOS_URL",  # of the Python client, and of these commands
    "SUPERPOS_API_KEY",
    "SUPERPOS_API_KEY_FILE",
    "SUPERPOS_DATA",  # of the task files of the example tasks, of tests and benchmarks
    "SUPERPOS_CONFORMANCE_RECORD",  # of verification/conformance.py
}
_SERVICE_LINK = re.compile(
    r"SUPERPOS_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*"
    r"|SUPERPOS_\w+_PORT=(tcp|udp|sctp)://.*"
)
"""Variables that Kubernetes sets in every container for a Service whose name begins with `superpos`."""
_CONFIG = SettingsConfigDict(env_prefix=PREFIX, frozen=True)


class UnknownVariable(Exception):
    """A variable, or a file of secrets, that nothing reads."""


class _FormerNames(BaseSettings):
    """Names that settings had before they were renamed. Accepted with a warning, to be removed after 0.2."""

    model_config = SettingsConfigDict(**{**_CONFIG, "extra": "ignore"})

    bank_bytes: str = "prompt_table_bytes"
    trip_after_failures: str = "breaker_failures"
    trip_cool_down_s: str = "breaker_reset_s"
    stuck_after_s: str = "forward_timeout_s"
    check_after_s: str = "heartbeat_interval_s"
    ready_within_s: str = "readiness_max_age_s"


RENAMED: dict[str, str] = {name: field.default for name, field in _FormerNames.model_fields.items()}
"""Current name of each former name."""


class Settings(BaseSettings):
    """Configuration of a server process."""

    model_config = SettingsConfigDict(**{**_CONFIG, "extra": "forbid"})

    backbone: str = "embedded"
    """`embedded`, a directory, or a Hugging Face id."""
    revision: str | None = None
    offline: bool = False
    device: str = "cpu"
    precision: Literal["auto", "fp32", "int8", "bf16"] = "auto"
    """`auto`: `bf16` on a CPU that is faster in it, else `fp32`; `int8` on a CPU; `bf16` on CUDA (untested), or on a
    CPU that multiplies in it. Adapters whose labels were not found to agree in it are answered in fp32."""
    force_precision: bool = False
    """Answer every adapter in `precision`, whatever its labels were there."""
    cache_dir: Path = Field(default_factory=default_cache_dir)
    registry: str = Field(default_factory=lambda: str(default_registry()))
    """A SQLite file, or the URL of a Redis (redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://)."""
    registry_wait_s: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that the start waits for a Redis server that does not respond."""
    console: bool = True
    """Serve the web console at `/console`."""
    default_task: str | None = None
    """Ref for requests that name no task, of keys without a default of their own; None if each must name one."""
    bundled: bool = True
    """Publish the bundled adapters into an empty registry."""
    start_adapters: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    """Further adapters published into an empty registry: `task=URL,task=URL` (hf://, s3://, file://)."""

    require_keys: bool = False
    """Refuse requests without a key. Without this, every client acts as the operator, in the default tenant."""
    admin_key: SecretStr | None = None
    """The first operator's key: `sp_<id>_<secret>`."""
    admin_key_file: Path | None = None
    """File with that key, as container engines mount secrets."""
    accounts_max_age_s: Annotated[float, Field(ge=1)] = 600.0
    """Seconds without contact to the store of tenants and keys after which requests with keys are refused."""
    max_key_changes_per_hour: Annotated[int, Field(ge=1)] = 200
    """Changes per hour that the administrators of a tenant may make to its keys; operators are not limited."""
    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback only with `require_keys`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names that a server without keys accepts in addition to localhost and loopback addresses."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses or networks of proxies whose `X-Forwarded-For` names the client; that of other clients is ignored."""
    max_connections: Annotated[int, Field(ge=1)] = 2_000
    """Open connections of a process, but at most three quarters of its descriptor limit (`ulimit -n`)."""
    header_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds for the header of a connection's first request, and for each later header from its first byte."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for a request's body."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds after which an idle connection is closed."""
    answer_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that a client may take to read an answer."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of the model in each process; None divides the cores that it may use among the workers."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Worker processes behind the port, each with its own model, queue and prompt table."""

    max_batch_tokens: Annotated[int, Field(ge=1)] = 1_024
    max_queue_rows: Annotated[int, Field(ge=1)] = 1_024
    max_queue_tokens: Annotated[int, Field(ge=1)] = 32_768
    max_rows_per_request: Annotated[int, Field(ge=1)] = 256
    max_text_chars: Annotated[int, Field(ge=1)] = 100_000
    max_text_tokens: Annotated[int, Field(ge=2)] = 1_024
    """Largest `max_tokens` of a task that is served."""
    max_trie_nodes: Annotated[int, Field(ge=1)] = 1_024
    """Largest number of trie nodes that the labels of a served task may take to decode."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 2 << 20
    max_upload_bytes: Annotated[int, Field(ge=1)] = 8 << 20
    bodies_bytes: Annotated[int, Field(ge=1 << 20)] = 128 << 20
    """Bytes of all request bodies that are being read or answered; a tenant may hold twice the free part."""
    max_tasks_per_request: Annotated[int, Field(ge=1)] = 32
    default_timeout_ms: Annotated[int, Field(ge=1)] = 30_000
    max_timeout_ms: Annotated[int, Field(ge=1)] = 120_000
    prompt_table_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """Device memory for prompts; beyond it the least recently used are evicted."""
    max_aliases_per_task: Annotated[int, Field(ge=1)] = 100
    max_aliases_per_tenant: Annotated[int, Field(ge=1)] = 50_000
    max_task_names: Annotated[int, Field(ge=1)] = 50_000
    """Names that a tenant's tasks have ever had: version numbers of deleted tasks stay reserved."""
    max_log_entries: Annotated[int, Field(ge=1)] = 10_000
    """Latest entries per tenant that the change log keeps as history, besides those that the present state needs."""
    max_audit_entries: Annotated[int, Field(ge=1)] = 10_000
    """Latest entries per tenant that the audit log keeps of each author: operators, administrators, and the server."""
    max_feedback_bytes: Annotated[int, Field(ge=1 << 16)] = 16 << 20
    """Bytes of texts that a tenant may keep, if it has opted in; a tenant's own limit may be lower."""
    max_jobs_per_tenant: Annotated[int, Field(ge=1)] = 4
    """Training jobs of a tenant that have not ended; a tenant's own limit may be lower, as for the next two."""
    max_job_rows: Annotated[int, Field(ge=1)] = 20_000
    """Rows of a training job, those to measure on and corrections included."""
    max_job_s: Annotated[int, Field(ge=1)] = 3_600
    """Seconds that trainers may spend on a job."""
    max_job_bytes: Annotated[int, Field(ge=1)] = 8 << 20
    """Bytes of the request that submits a job, also after decompression."""
    job_lease_s: Annotated[float, Field(ge=1)] = 30.0
    """Seconds after which a trainer that no longer responds loses its job to another."""
    trainer_metrics_host: str = "127.0.0.1"
    """Address at which a trainer serves its metrics."""
    trainer_metrics_port: Annotated[int | None, Field(ge=0, le=65_535)] = None
    """Port of a trainer's metrics; 0 picks a free one; without it they are not served."""
    max_loaded_adapters: Annotated[int, Field(ge=1)] = 20_000
    result_cache_bytes: Annotated[int, Field(ge=0)] = 0
    """Host memory of the result cache; 0 computes every row."""
    poll_interval_s: Annotated[float, Field(gt=0)] = 0.05
    """Seconds between polls of the registry's change log."""
    breaker_failures: Annotated[int, Field(ge=1)] = 3
    """Consecutive failed rows after which an adapter is refused for `breaker_reset_s`."""
    breaker_reset_s: Annotated[float, Field(gt=0)] = 30.0
    forward_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds that one piece of a forward (a part of a layer) may take before the process exits with status 1."""
    heartbeat_interval_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds without an answered row after which the model runs a small probe."""
    readiness_max_age_s: Annotated[float, Field(gt=0)] = 30.0
    """Age of the last successful forward beyond which the server is not ready."""
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after a signal in which the server is not ready but accepts connections, so that a gateway notices."""
    drain_timeout_s: Annotated[int, Field(ge=0)] = 30
    """Seconds for accepted requests after that; then they are cancelled."""
    log_format: Literal["json", "console"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Level of the server's own entries; that of libraries is warning."""
    otlp_endpoint: str | None = None
    """OTLP/HTTP endpoint of traces (http://localhost:4318/v1/traces); None disables tracing."""
    otlp_service_name: str = "superpos"
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of sampled traces that begin here; a caller's traceparent takes precedence."""

    def __init__(self, **values: Any) -> None:
        """Read the settings that `values` leaves open from the environment.

        Raises:
            UnknownVariable: the environment or the folder of secrets names something that nothing reads
            pydantic.ValidationError: an invalid value
        """
        check_environment(os.environ)
        super().__init__(**values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read keywords first, then the environment, then the files in SUPERPOS_SECRETS_DIR that settings name."""
        sources = [init_settings, env_settings, EnvSettingsSource(_FormerNames)]
        if folder := os.environ.get(SECRETS_DIR):
            sources += [SecretsSettingsSource(names, folder) for names in (settings_cls, _FormerNames)]
        return tuple(sources)

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, values: dict[str, object]) -> dict[str, object]:
        for former, name in RENAMED.items():
            if former not in values:
                continue
            if name in values:
                raise ValueError(f"{name} and its former name {former} are both set; expected {name} alone")
            warnings.warn(f"setting {former} is deprecated: it is now {name}", FutureWarning, stacklevel=2)
            values = {name: values[former], **{key: value for key, value in values.items() if key != former}}
        return values

    @field_validator("precision", mode="before")
    @classmethod
    def _no_fp16(cls, precision: object) -> object:
        if precision in ("fp16", "float16", "half"):
            raise ValueError("T5's activations overflow fp16; use bf16, or int8 on a CPU")
        return precision

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                network = ip_network(proxy)
            except ValueError as exc:
                raise ValueError(f"{exc}; expected addresses or networks, such as 127.0.0.1,10.0.0.0/8") from exc
            if network.prefixlen == 0:
                raise ValueError(f"{proxy} trusts every client to state its own address; name the proxies")
        return proxies

    @field_validator("allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, hosts: object) -> object:
        return tuple(host.strip() for host in hosts.split(",") if host.strip()) if isinstance(hosts, str) else hosts

    @field_validator("start_adapters", mode="before")
    @classmethod
    def _split_pairs(cls, listed: object) -> object:
        if not isinstance(listed, str):
            return listed
        pairs = [pair.strip().partition("=") for pair in listed.split(",") if pair.strip()]
        if len({task for task, _, _ in pairs}) < len(pairs):
            raise ValueError("a task is listed twice; expected task=URL,task=URL")
        return {task: url for task, _, url in pairs}

    @field_validator("registry", mode="before")
    @classmethod
    def _path_as_text(cls, registry: object) -> object:
        return str(registry) if isinstance(registry, Path) else registry

    @field_validator("host")
    @classmethod
    def _loopback_without_keys(cls, host: str, info: ValidationInfo) -> str:
        """Refuse addresses beyond loopback without keys: every client of the port could classify and upload."""
        if not info.data.get("require_keys") and host != "localhost" and not _is_loopback(host):
            raise ValueError(
                "without keys the server binds to loopback only (127.0.0.1, ::1 or localhost); "
                "set require_keys to be reached from elsewhere"
            )
        return host

    @field_validator("admin_key_file")
    @classmethod
    def _one_admin_key(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.data.get("admin_key") is not None:
            raise ValueError("admin_key and admin_key_file are both set; expected one of them")
        return file


def known_variables() -> frozenset[str]:
    """Return every environment variable that the project reads, former names included."""
    settings = {f"{PREFIX}{name.upper()}" for name in (*Settings.model_fields, *RENAMED)}
    return frozenset(settings | _OTHER_VARIABLES)


def check_environment(environment: Mapping[str, str], *, only_misspelt: bool = False) -> None:
    """Refuse variables that begin with `SUPERPOS_` and that nothing reads; the values are not shown.

    Args:
        environment: as `os.environ`
        only_misspelt: accept those that resemble no known variable, such as a variable of a task file

    Raises:
        UnknownVariable: names it and the nearest known one
    """
    known = {name.removeprefix(PREFIX) for name in known_variables()}
    names = {name: f"environment variable {name}" for name in environment if not _is_service_link(name, environment)}
    if (folder := environment.get(SECRETS_DIR)) and Path(folder).is_dir():
        names |= {path.name: f"file {path.name} in {folder}" for path in Path(folder).iterdir()}
    for name, what in sorted(names.items()):
        setting = name.upper().removeprefix(PREFIX)
        if not name.upper().startswith(PREFIX) or setting in known:
            continue
        meant = nearest(setting, known)
        if meant is None and only_misspelt:
            continue
        hint = f"did you mean {PREFIX}{meant}?" if meant else "nothing reads it."
        raise UnknownVariable(f"unknown {what}: {hint} Correct or remove it (docs/operations.md lists all settings)")


def _is_service_link(name: str, environment: Mapping[str, str]) -> bool:
    return _SERVICE_LINK.fullmatch(f"{name}={environment[name]}") is not None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
