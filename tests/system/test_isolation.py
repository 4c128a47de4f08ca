"""No tenant ever gets another's answer: `verification/isolation.py` for some seconds, on a tiny model."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from support.backbone import make_t5
from support.server import RunningServer, sample

from backbone import load
from verification import isolation, isolation_load


@pytest.mark.usefixtures("one_thread")
def test_under_swaps_and_evictions_every_answer_is_what_its_own_tenants_adapter_says_alone(
    serve: Callable[..., RunningServer], tmp_path: Path, cache_dir: Path
) -> None:
    wide = make_t5(tmp_path / "wide", gated=True, width=256)  # ten prompts fill its bank
    backbone = load(str(wide), cache_dir=cache_dir)
    pool = {
        name: isolation.sentinels(backbone, name, count=30, first_seed=seed)
        for name, seed in (("blue", 0), ("red", 999))
    }
    expected = {adapter.digest: isolation.alone(backbone, adapter) for made in pool.values() for _, adapter in made}
    assert isolation.indistinct(expected) < 0.01
    server = serve(**isolation.PRESSURE, bundled=False, backbone=str(wide))
    found = asyncio.run(isolation_load.run(server.url, pool, expected, seconds=6))
    assert found.wrong == []
    assert found.rows > 50
    assert found.foreign_refused > 0
    assert found.swaps > 5
    # each was in the bank when it was published, for its trial
    assert sample(server, "superpos_adapters_resident") < found.published, "nothing was evicted from the bank"
