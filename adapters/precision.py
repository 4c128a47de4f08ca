"""Whether an adapter was seen to work in int8: what its provenance says of it."""

from adapters.adapter import PromptAdapter
from adapters.errors import InvalidAdapter

INT8_LABEL_AGREEMENT = "int8_label_agreement"
"""The provenance metric that holds the share of rows with the same label in int8 as in float32, 0 to 1."""
MIN_INT8_LABEL_AGREEMENT = 0.98


def check_int8(adapter: PromptAdapter) -> None:
    """Refuse an adapter that was not validated in int8, or that answered too many rows otherwise there.

    Raises:
        InvalidAdapter: with the agreement that was found, or that none was
    """
    found = adapter.manifest.provenance.metrics.get(INT8_LABEL_AGREEMENT)
    if found is None or found < MIN_INT8_LABEL_AGREEMENT:
        value = "not measured (superpos evaluate --int8 --record measures it)" if found is None else found
        raise InvalidAdapter("label agreement of int8 with fp32", value, f"at least {MIN_INT8_LABEL_AGREEMENT}")
