"""Labels of tenants: words that the server knows, and not many of them."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from service.errors import ADMISSION_REASONS, AUTHENTICATION_REASONS, Forbidden, NotReady, QueueFull, Unauthenticated
from service.telemetry.collectors import RefusalMetrics
from service.telemetry.tenant_metrics import MAX_TENANTS, OTHER_TENANT, OUTCOMES, TenantMetrics


def requests(registry: CollectorRegistry) -> Mapping[tuple[str, str], float]:
    """By tenant and outcome."""
    samples = (sample for family in registry.collect() for sample in family.samples)
    return {
        (sample.labels["tenant"], sample.labels["status"]): sample.value
        for sample in samples
        if sample.name == "superpos_tenant_requests_total"
    }


def test_only_tenants_that_are_known_have_a_label_and_no_more_than_a_hundred() -> None:
    registry = CollectorRegistry()
    metrics = TenantMetrics(registry, is_known=lambda tenant: tenant.startswith("known"))
    metrics.ended("a-name-that-a-caller-made-up", "4xx")
    for number in range(MAX_TENANTS + 20):
        for _ in range(2):
            metrics.ended(f"known-{number}", "2xx")
    counted = requests(registry)
    tenants = {tenant for tenant, _ in counted} - {OTHER_TENANT}
    assert len(tenants) == MAX_TENANTS
    assert "known-0" in tenants
    assert "a-name-that-a-caller-made-up" not in tenants
    assert counted[OTHER_TENANT, "4xx"] == 1
    assert sum(counted.values()) == 1 + 2 * (MAX_TENANTS + 20)
    assert all((tenant, outcome) in counted for tenant in tenants for outcome in OUTCOMES)


def test_refusals_are_counted_by_reason_and_other_errors_are_none() -> None:
    registry = CollectorRegistry()
    metrics = RefusalMetrics(registry)
    for reason in ADMISSION_REASONS:
        assert registry.get_sample_value("superpos_admission_refusals_total", {"reason": reason}) == 0
        metrics.refused(QueueFull("full", retry_after_s=1, reason=reason))
        assert registry.get_sample_value("superpos_admission_refusals_total", {"reason": reason}) == 1
    for failure in AUTHENTICATION_REASONS:
        metrics.refused(Unauthenticated("no key", reason=failure))
        assert registry.get_sample_value("superpos_authentication_failures_total", {"reason": failure}) == 1
    metrics.refused(Forbidden("the key's role is 'classify'"))
    assert registry.get_sample_value("superpos_authorization_failures_total") == 1
    metrics.refused(NotReady("gone"))
    after = [sample for family in registry.collect() for sample in family.samples if "created" not in sample.name]
    assert {s.value for s in after} == {1.0}
