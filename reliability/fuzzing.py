"""`Fuzzing`: chance, and the account of a search through inputs that nobody has written."""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Fuzzing"]


@dataclass
class Fuzzing:
    """Inputs so far, by outcome, and the first that were wrong."""

    chance: random.Random
    folder: Path
    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    wrong: list[str] = field(default_factory=list[str])

    def fail(self, what: str) -> None:
        """Count an input as wrong."""
        self.outcomes["wrong"] += 1
        if len(self.wrong) < 20:
            self.wrong.append(what)
