"""Panels for Jupyter notebooks."""

from __future__ import annotations

from widgets.notebook.board import PlacementBoard

__all__ = ["PlacementBoard"]
