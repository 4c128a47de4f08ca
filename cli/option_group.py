"""Options that several commands share and receive as one value."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

Command = Callable[..., None]


def option_group(
    parameter: str, options: Mapping[str, tuple[object, object]], build: Callable[..., object]
) -> Callable[[Command], Command]:
    """Replace a parameter of a command by options, and pass what `build` makes of their values in its place.

    Args:
        parameter: name of the command's parameter
        options: annotation and default of each option, by name
        build: takes the options' values by name
    """
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            built = build(**{name: given.pop(name) for name in options})
            command(**given, **{parameter: built})

        signature = inspect.signature(command)
        parameters = []
        for each in signature.parameters.values():
            parameters += added if each.name == parameter else [each.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate
