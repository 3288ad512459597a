"""Which documents are for training and which for validation: decided by their text alone."""

import hashlib
from dataclasses import dataclass

from eliquare.stage import InputError


def document_number(text: str) -> int:
    """A number below 2**64 from a document's text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()[:8], "little")


@dataclass(frozen=True)
class Split:
    """Documents below ``validation`` by their number are for validation, the others to train on."""

    validation: int

    @classmethod
    def fit(cls, numbers: list[int], validation_share: float):
        """The split for this share, moved just so far that both sides hold one of ``numbers``.

        Raises InputError where there are no two different documents.
        """
        if len(set(numbers)) < 2:
            raise InputError("expected at least two different documents, to train and to validate")
        validation = max(int(validation_share * 2**64), min(numbers) + 1)
        return cls(min(validation, max(numbers)))

    def side(self, text: str) -> str:
        """'train' or 'validation'."""
        return "validation" if document_number(text) < self.validation else "train"
