"""The faults of a table, collected to be raised together."""

from __future__ import annotations

from docid.errors import Problem, TaskTableError

_PROBLEM_LIMIT = 1000


class Faults:
    """The faults of a table: the count of all, and the first 1,000."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0

    def add(self, row: int | None, column: str | None, value: str, expected: str) -> None:
        """Note one fault. See `Problem`."""
        self.count += 1
        if self.count <= _PROBLEM_LIMIT:
            self.problems.append(Problem(self.file, row, column, value, expected))

    def take_over(self, error: TaskTableError) -> None:
        """Note the faults of an error."""
        self.problems = [*self.problems, *error.problems][:_PROBLEM_LIMIT]
        self.count += error.count

    def sort(self) -> None:
        """Sort the faults by row."""
        self.problems.sort(key=lambda problem: problem.row or 0)

    def raise_any(self) -> None:
        """Raise a `TaskTableError` if there are faults."""
        if self.count:
            raise TaskTableError(self.problems, self.count)
