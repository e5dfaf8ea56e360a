"""Pictures of what the engine knows, drawn by whoever offers to.

The engine knows nothing of plots. A package that can draw says so with an entry point in the group
`parallel_lab.views`, a name and a function; `widgets` does, and so may any other.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from lab.errors import LabError

GROUP = "parallel_lab.views"


def draw(name: str, *args: Any) -> Any:
    """What the view of that name makes of the arguments; of several, the first by package name.

    Raises:
        LabError: when no installed package offers it, or one that it needs is missing.
    """
    offered = sorted(entry_points(group=GROUP, name=name), key=lambda point: point.value)
    if not offered:
        raise LabError(
            f"no installed package draws {name!r}. Parallel Lab's own does; install it again: pip install parallel-lab"
        )
    try:
        view = offered[0].load()
        return view(*args)
    except ModuleNotFoundError as error:
        raise LabError(
            f"drawing {name!r} needs {error.name}, which is not installed: pip install {error.name}"
        ) from error
