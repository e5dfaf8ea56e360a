"""How a net of the user's own travels to worker processes."""

from __future__ import annotations

from typing import Any

from lab.errors import RunError


def of_net(net: Any) -> bytes | None:
    """A module, or what makes one, by value: what is defined in a notebook cell cannot be imported elsewhere.

    Raises:
        RunError: when something in it cannot travel.
    """
    if net is None:
        return None
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(net)
    except Exception as error:
        raise RunError(
            f"your net cannot be sent to a worker process: {type(error).__name__}: {error}. Give a class or a function "
            "that makes it, and open files, locks and connections inside"
        ) from error
    return pickled
