"""Errors of the frozen model.

BackboneError
├── BackboneNotFound      the directory, Hub id, revision or wheel does not exist
├── UnsupportedBackbone   the model exists, but is not a T5 that this package can run
├── DeviceUnavailable     this machine lacks the device
├── BackboneCacheError    the cache folder cannot be written, or its files are damaged
├── InvalidLabels         no trie can be built from the label words
└── TextTooLong           a text exceeds its token limit, and truncation is not allowed
    └── NoRoomForFields   truncation would leave too little of a field
"""


class BackboneError(Exception):
    """Base class of this package's errors."""


class BackboneNotFound(BackboneError):
    """The weights do not exist or cannot be reached."""


class UnsupportedBackbone(BackboneError):
    """The weights exist, but this package has no forward for them."""


class DeviceUnavailable(BackboneError):
    """The device is invalid, or this machine lacks it."""


class BackboneCacheError(BackboneError):
    """The converted weights cannot be written to, or read from, the cache folder."""


class InvalidLabels(BackboneError):
    """Label words are empty, have the same tokens, or exceed a limit."""

    def __init__(self, check: str, value: object, expected: str) -> None:
        super().__init__(f"{check}: got {value!r}, expected {expected}")
        self.check, self.value, self.expected = check, value, expected


class TextTooLong(BackboneError):
    """A text has more tokens than its task allows, and truncation is not allowed."""

    def __init__(self, index: int, num_tokens: int, max_tokens: int) -> None:
        super().__init__(f"inputs[{index}] has {num_tokens} tokens, the task allows {max_tokens}; {self._advice()}")
        self.index, self.num_tokens, self.max_tokens = index, num_tokens, max_tokens

    def _advice(self) -> str:
        return "shorten it, or allow its truncation"

    def at(self, index: int) -> "TextTooLong":
        """Return the same error for another index."""
        return TextTooLong(index, self.num_tokens, self.max_tokens)


class NoRoomForFields(TextTooLong):
    """The template's own words and the shortest allowed part of each field exceed the limit."""

    def __init__(self, index: int, num_tokens: int, max_tokens: int, *, field: str, left: int) -> None:
        self.field, self.left = field, left
        super().__init__(index, num_tokens, max_tokens)

    def _advice(self) -> str:
        return (
            f"truncation would leave {self.left} tokens of field {self.field!r}, too few to answer by; "
            "shorten the fields, or raise the task's max_tokens"
        )

    def at(self, index: int) -> "NoRoomForFields":
        return NoRoomForFields(index, self.num_tokens, self.max_tokens, field=self.field, left=self.left)
