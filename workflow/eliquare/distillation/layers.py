"""Which layers of student and teacher a term compares, and whether it can."""

from transformers import PretrainedConfig, PreTrainedModel

from eliquare.distillation.terms import Term
from eliquare.stage import InputError

Pairs = list[tuple[int, int]]


def layer_maps(
    terms: dict[str, Term], student: PreTrainedModel, teacher: PreTrainedModel
) -> dict[str, Pairs]:
    """(student layer, teacher layer) pairs of each term that compares layers, counted from 1.

    Layer 0 of ``hidden`` is the embeddings. By default ``hidden`` and ``attention`` map evenly
    spread layers (Jiao et al. 2020), ``relations`` the last to the last. Raises InputError where a
    layer does not exist or the heads do not fit.
    """
    mine, theirs = student.config, teacher.config
    maps = {}
    for name in ("hidden", "attention", "relations"):
        if name in terms:
            maps[name] = _pairs(name, terms[name].settings["layers"], mine, theirs)
    if "attention" in terms:
        _check_heads(mine.num_attention_heads, theirs.num_attention_heads)
    if "relations" in terms:
        relation_heads(terms["relations"], mine, theirs)
    return maps


def relation_heads(term: Term, mine: PretrainedConfig, theirs: PretrainedConfig) -> int:
    """The number of relation heads: what was asked for, or the teacher's attention heads."""
    heads = term.settings["heads"] or theirs.num_attention_heads
    for whose, config in (("student", mine), ("teacher", theirs)):
        if config.hidden_size % heads:
            both = [
                number
                for number in range(1, heads)
                if mine.hidden_size % number == theirs.hidden_size % number == 0
            ]
            raise InputError(
                f"relations: the {whose}'s width of {config.hidden_size} does not split into "
                f"{heads} relation heads; write heads: {both[-1]}, which divides both widths"
            )
    return heads


def _pairs(
    name: str, layers: dict | None, mine: PretrainedConfig, theirs: PretrainedConfig
) -> Pairs:
    depths = mine.num_hidden_layers, theirs.num_hidden_layers
    if layers is None and name == "relations":
        return [depths]
    first = 0 if name == "hidden" else 1
    if layers is None:
        return [(number, number * depths[1] // depths[0]) for number in range(first, depths[0] + 1)]
    pairs = sorted((int(one), int(other)) for one, other in layers.items())
    for pair in pairs:
        for whose, layer, depth in zip(("student", "teacher"), pair, depths, strict=True):
            if not first <= layer <= depth:
                raise InputError(
                    f"{name}.layers: layer {layer} of the {whose}, whose layers are {first} to "
                    f"{depth}"
                )
    return pairs


def _check_heads(mine: int, theirs: int) -> None:
    if mine != theirs:
        raise InputError(
            f"attention: the student has {mine} attention heads and the teacher {theirs}, and maps "
            f"are compared head by head; give the student {theirs} heads, or use relations, which "
            "split into any number of heads"
        )
