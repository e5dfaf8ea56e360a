"""The course's exercises: each is answered in a notebook and checked for a property, never for its text.

    from lab.exercises import check

    def average(gradients):
        return sum(gradients) / len(gradients)

    check("02-average", average)      # says that it holds, or what broke

A notebook's checks are in the file of its number here; a new exercise is one function there, with `@exercise`.
"""

from __future__ import annotations

from lab.exercises.grading import Verdict, check, names

__all__ = ["Verdict", "check", "names"]
