"""The errors of the frozen model.

BackboneError
├── BackboneNotFound      no such directory, Hub id, revision, or wheel
├── UnsupportedBackbone   it was found, but is not a T5 that this package can run
├── DeviceUnavailable     there is no such device here
├── BackboneCacheError    the cache folder cannot be written, or what lies there is damaged
├── InvalidLabels         label words that no trie can be built from
└── TextTooLong           a text over its token limit, where cutting was not allowed
"""


class BackboneError(Exception):
    """Anything that this package refuses."""


class BackboneNotFound(BackboneError):
    """The weights named do not exist or cannot be reached."""


class UnsupportedBackbone(BackboneError):
    """The weights exist, but this package has no forward for them."""


class DeviceUnavailable(BackboneError):
    """The device named is none, or this machine has none of its kind."""


class BackboneCacheError(BackboneError):
    """The converted weights cannot be written to, or read from, the cache folder."""


class InvalidLabels(BackboneError):
    """The label words cannot be told apart, are empty, or pass a limit."""

    def __init__(self, check: str, value: object, expected: str) -> None:
        super().__init__(f"{check}: got {value!r}, expected {expected}")
        self.check, self.value, self.expected = check, value, expected


class TextTooLong(BackboneError):
    """A text has more tokens than its task allows, and the caller asked not to cut it."""

    def __init__(self, index: int, num_tokens: int, max_tokens: int) -> None:
        super().__init__(f"inputs[{index}] has {num_tokens} tokens, the task allows {max_tokens}")
        self.index, self.num_tokens, self.max_tokens = index, num_tokens, max_tokens
