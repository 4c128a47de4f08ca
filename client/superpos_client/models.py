"""Base of the values that the client returns."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """An immutable part of an answer. Members that a newer server adds are ignored."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())
