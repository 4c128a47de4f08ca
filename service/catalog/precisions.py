"""The precision that answers an adapter: the server's, or float32 where the server's does not suit the adapter.

`Precisions` holds the backbone of each. The float32 weights are loaded when the first adapter needs them.
"""

import threading
from collections.abc import Callable

import structlog

from adapters import PromptAdapter
from adapters.errors import NotValidatedInPrecision
from backbone import Backbone, Precision
from service import memory

_log = structlog.get_logger("service")
_BYTES_PER_PARAMETER = 8
"""Size of float32 weights as they are loaded, and in the layout of their kernels."""


class Precisions:
    """The server's backbone, and a float32 one on demand. May be called from any thread.

    Args:
        backbone: the server's, in the precision that it prefers
        load_fp32: loads the same model in float32, tested
        force: answer every adapter in the preferred precision, whatever its labels were there
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        load_fp32: Callable[[], Backbone] | None = None,
        force: bool = False,
    ) -> None:
        self.backbone = backbone
        self._load_fp32, self._force = load_fp32, force
        self._fp32: Backbone | None = None
        self._loading = threading.Lock()

    @property
    def loaded(self) -> tuple[Precision, ...]:
        """The precisions whose weights are in memory, the preferred one first."""
        return (self.backbone.precision,) if self._fp32 is None else (self.backbone.precision, "fp32")

    def fp32_for(self, adapter: PromptAdapter) -> Backbone | None:
        """Return the float32 backbone if the preferred precision does not suit an adapter, None if it does.

        Raises:
            NotValidatedInPrecision: it does not, and there is no memory for a second copy of the weights
            BackboneError: the weights cannot be loaded
        """
        precision = self.backbone.precision
        if precision == "fp32" or self._force:
            return None
        try:
            adapter.check_precision(precision)
        except NotValidatedInPrecision as exc:
            with self._loading:
                if self._fp32 is None:
                    self._fp32 = self._beside(exc)
                return self._fp32
        return None

    def _beside(self, unsuited: NotValidatedInPrecision) -> Backbone:
        if self._load_fp32 is None:
            raise unsuited
        needed = _BYTES_PER_PARAMETER * self.backbone.num_parameters
        available = memory.available_bytes()
        if available is not None and available < needed:
            raise NotValidatedInPrecision(
                unsuited.check,
                unsuited.value,
                f"{unsuited.expected}; "
                f"float32 weights take {(needed >> 20) + 1} MiB more, of which {available >> 20} MiB are free",
            )
        loaded = self._load_fp32()
        _log.info("fp32_weights_loaded", reason=f"an adapter is not suited to {self.backbone.precision}: {unsuited}")
        return loaded
