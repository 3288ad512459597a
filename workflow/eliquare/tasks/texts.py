"""Texts, and pairs of texts, to sub-words."""

from collections.abc import Sequence
from typing import NamedTuple

from eliquare.tasks.examples import Text


class EncodedTexts(NamedTuple):
    """Model inputs for each text, and what of the texts was lost on the way.

    ``truncated`` is the number of texts that were too long; ``unknown`` and ``subwords`` count
    over the whole texts, special tokens left out.
    """

    features: list[dict[str, list[int]]]
    truncated: int
    unknown: int
    subwords: int


def encode(tokenizer, texts: Sequence[Text], max_length: int) -> EncodedTexts:
    """Encode texts, cut to ``max_length`` sub-words with the special tokens, the longest of a pair
    first."""
    special = tokenizer.num_special_tokens_to_add(pair=bool(texts) and texts[0].second is not None)
    features, truncated, unknown, subwords = [], 0, 0, 0
    whole = tokenizer(*_columns(texts), verbose=False)
    names = list(whole.keys())
    for number, ids in enumerate(whole["input_ids"]):
        # The special tokens around an empty text are none of them the unknown sub-word.
        unknown += ids.count(tokenizer.unk_token_id)
        subwords += len(ids) - special
        if len(ids) > max_length:
            truncated += 1
            columns = [column[0] for column in _columns(texts[number : number + 1])]
            cut = tokenizer(*columns, truncation="longest_first", max_length=max_length)
            features.append({name: cut[name] for name in names})
        else:
            features.append({name: whole[name][number] for name in names})
    return EncodedTexts(features, truncated, unknown, subwords)


def _columns(texts: Sequence[Text]) -> list[list[str]]:
    columns = [[text.text for text in texts]]
    if texts and texts[0].second is not None:
        columns.append([text.second for text in texts])
    return columns
