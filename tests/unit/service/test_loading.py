"""The backbone of a server is loaded in a thread of its own; its faults are raised where it is waited for."""

from pathlib import Path

import pytest

from backbone import Backbone, BackboneError, fastest_for_serving
from service.loading import begin_loading
from service.settings import Settings


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_backbone_is_loaded_in_the_precision_of_the_settings(
    precision: str, tiny: Backbone, tiny_t5: Path, cache_dir: Path
) -> None:
    found = begin_loading(Settings(backbone=str(tiny_t5), cache_dir=cache_dir, precision=precision)).result()
    assert found.identity == tiny.identity
    assert found.precision == (fastest_for_serving(tiny.device) if precision == "auto" else precision)


@pytest.mark.parametrize(
    ("changes", "said"), [({"backbone": "/no/such/folder"}, "no such directory"), ({"device": "tpu"}, "'tpu'")]
)
def test_what_cannot_be_loaded_is_raised_where_it_is_waited_for(
    changes: dict[str, str], said: str, cache_dir: Path
) -> None:
    loading = begin_loading(Settings(cache_dir=cache_dir, **changes))
    for _ in range(2):
        with pytest.raises(BackboneError, match=said):
            loading.result()
