"""A library that the tests of this folder share."""

from pathlib import Path

import pytest
from support.source_prompts import make_library

from backbone import Backbone


@pytest.fixture(scope="package")
def library(tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of four finished prompts of two tasks."""
    return make_library(tiny, tmp_path_factory.mktemp("library"))
