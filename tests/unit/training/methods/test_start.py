"""A prompt that no adapter could hold is refused where a run starts, in words."""

import pytest
import torch

from adapters.adapter import MAX_ROW_NORM
from backbone import Backbone
from training.config.arguments import TrainArguments
from training.errors import InvalidArguments
from training.loop.train import train
from training.methods import Simple
from training.methods.factory import start_method
from training.methods.protocol import check_start
from training.scoring.evaluation import TokenizedRows


@pytest.mark.parametrize("value", [2 * MAX_ROW_NORM, float("nan"), float("inf")])
def test_a_start_out_of_bounds_is_refused_and_not_an_index_error(tiny: Backbone, value: float) -> None:
    start = torch.zeros(4, tiny.width)
    start[2, 1] = value
    method = Simple(start, weight_decay=0.0)
    with pytest.raises(InvalidArguments, match=r"row 2\) of norm .*expected at most 100000"):
        check_start(method)
    rows = TokenizedRows(((5, 6, 1), (7, 8, 1)), torch.tensor([0, 1]).numpy(), num_truncated=0)
    with pytest.raises(InvalidArguments, match="the prompt starts with"):
        train(
            tiny,
            method,
            TrainArguments(method="simple", num_virtual_tokens=4),
            trie=tiny.label_trie(["yes", "no"]),
            rows=rows,
            selection=rows,
        )


def test_the_start_of_every_method_is_checked_as_it_is_built(tiny: Backbone) -> None:
    for name in ("simple", "residual"):
        arguments = TrainArguments(method=name, num_virtual_tokens=4)  # type: ignore[arg-type]
        assert start_method(tiny, arguments).prompt().shape == (4, tiny.width)
