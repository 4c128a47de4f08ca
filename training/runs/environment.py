"""What a run was made with: Python, the libraries that its figures depend on, the machine, the device."""

import os
import platform
from importlib.metadata import version

import torch

_PACKAGES = ("superpos", "torch", "transformers", "numpy")


def environment(device: torch.device) -> dict[str, str | int]:
    """Versions by package, and what it ran on; nothing that names the machine or its user."""
    packages: dict[str, str | int] = {name: version(name) for name in _PACKAGES}
    return packages | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": _name(device),
    }


def software() -> dict[str, str]:
    """The versions alone, as an adapter's provenance has them."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _name(device: torch.device) -> str:
    """`cpu`, or the device with the name of its make."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
