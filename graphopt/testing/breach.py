"""What is raised when a pass breaks one of its laws."""

from __future__ import annotations


class LawBroken(AssertionError):
    """A pass broke a law. The message is one sentence; `law` names the law in a word or two."""

    def __init__(self, law: str, sentence: str) -> None:
        super().__init__(sentence)
        self.law = law
