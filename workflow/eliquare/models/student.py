"""A student as it starts: its shape, and which parts start as the teacher's."""

import re
from collections.abc import Callable, Mapping

import torch
import transformers
from transformers import AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from eliquare.config.model import StudentShape
from eliquare.io import InputError
from eliquare.models.narrow import Batches, narrowed

# Its name in DistilBERT is the second.
FEED_FORWARD = ("intermediate_size", "hidden_dim")
LAYER = re.compile(r"^(?P<before>.*\.layers?\.)(?P<index>\d+)(?P<after>\..*)$")


def new_student(
    teacher: PreTrainedModel,
    shape: StudentShape,
    seed: int,
    sample: Callable[[], Batches] | None = None,
) -> PreTrainedModel:
    """Return a student of this shape.

    Args:
        teacher: The teacher.
        shape: The student's shape, and what it starts from.
        seed: Decides the weights that start at random.
        sample: Returns batches of text, on which a narrower student is fitted to its teacher.

    Raises:
        InputError: no student of this shape can be made of this teacher.
    """
    config = student_config(teacher.config, shape)
    transformers.set_seed(seed)
    student: PreTrainedModel = AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
    if shape.initialization == "blank":
        return student
    weights = teacher.state_dict()
    own = student.config
    if own.hidden_size < teacher.config.hidden_size or feed_forward(own) < feed_forward(
        teacher.config
    ):
        if sample is None:
            raise InputError(
                "initialization: a student with an extension cannot start narrower than its "
                "teacher; write initialization: blank"
            )
        weights = narrowed(
            teacher, sample(), own.hidden_size, own.num_attention_heads, feed_forward(own)
        )
    copy_weights(student, teacher, weights, shape.initialization)
    return student


def student_config(teacher: PreTrainedConfig, shape: StudentShape) -> PreTrainedConfig:
    """Return the teacher's configuration in the student's shape.

    Raises:
        InputError: no student of this shape can be made.
    """
    layers = shape.num_hidden_layers
    if layers > teacher.num_hidden_layers:
        raise InputError(
            f"num_hidden_layers: {layers} asked for, and the teacher has "
            f"{teacher.num_hidden_layers}; a student has no more than its teacher"
        )
    config = teacher.__class__.from_dict(teacher.to_dict())
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        # ModernBERT: which layers attend to the full text; a copied layer keeps its kind.
        sources = layer_map(shape.initialization, layers, teacher.num_hidden_layers)
        config.layer_types = [teacher.layer_types[index] for index in sources or range(layers)]
    heads = shape.num_attention_heads
    if shape.hidden_size and not heads and shape.initialization != "blank":
        # The heads that stay have the teacher's size.
        heads = max(shape.hidden_size * teacher.num_attention_heads // teacher.hidden_size, 1)
    for name, value, most in (
        ("hidden_size", shape.hidden_size, teacher.hidden_size),
        (FEED_FORWARD[hasattr(config, "hidden_dim")], shape.intermediate_size, None),
        ("num_attention_heads", heads, None),
    ):
        if value is not None:
            if most and value > most:
                raise InputError(
                    f"{name}: {value} asked for, and the teacher has {most}; a student is no "
                    "wider than its teacher"
                )
            setattr(config, name, value)
    if getattr(config, "num_key_value_heads", None) and (shape.hidden_size or heads):
        config.num_key_value_heads = config.num_attention_heads
        config.head_dim = config.hidden_size // config.num_attention_heads
    if config.hidden_size % config.num_attention_heads:
        raise InputError(
            f"hidden_size: {config.hidden_size} is no multiple of "
            f"{config.num_attention_heads} heads"
        )
    return config


def layer_map(initialization: str, layers: int, teacher_layers: int) -> list[int]:
    """Return the teacher layer (from 0) that each student layer starts as; empty for none.

    ``even``: the teacher is divided into as many equal parts as the student has layers, and each
    layer starts as the middle one of its part, the lower of two: 0, 2, 4, 6, 8, 10 for 6 of 12, 1,
    5, 9, 13, 17, 21 for 6 of 24. ``2n-1``: layer n from layer 2n-1, counted from 1
    (electronics2023); the same as ``even`` for half the teacher's layers. ``distilbert``: spread
    with first and last included: 0, 2, 4, 7, 9, 11 for 6 of 12 (DistilBERT's extraction script,
    generalized to other depths).

    Raises:
        InputError: the teacher has too few layers for ``2n-1``.
    """
    if initialization == "even":
        # Counted from 1: (2n - 1) * T / (2 * S), rounded up.
        return [((2 * n + 1) * teacher_layers - 1) // (2 * layers) for n in range(layers)]
    if initialization == "2n-1":
        if 2 * layers - 1 > teacher_layers:
            raise InputError(
                f"initialization: 2n-1 takes layer {2 * layers - 1} of the teacher for layer "
                f"{layers}, and the teacher has {teacher_layers}; use even, or first or last"
            )
        return [2 * index for index in range(layers)]
    if initialization == "distilbert":
        last = teacher_layers - 1
        return [round(index * last / max(layers - 1, 1)) for index in range(layers)]
    if initialization == "first":
        return list(range(layers))
    if initialization == "last":
        return list(range(teacher_layers - layers, teacher_layers))
    return []


def feed_forward(config: PreTrainedConfig) -> int:
    """Return the width of the feed-forward part."""
    return int(getattr(config, FEED_FORWARD[hasattr(config, "hidden_dim")]))


@torch.no_grad()
def copy_weights(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    weights: Mapping[str, torch.Tensor],
    initialization: str,
) -> None:
    """Copy the teacher's weights into the student as the initialization says.

    ``embeddings`` copies the embeddings alone (with the weights tied to them), the others the
    embeddings, the head and the mapped layers.

    Args:
        student: The student.
        teacher: The teacher.
        weights: The teacher's weights in the student's width, by name.
        initialization: What is copied.

    Raises:
        InputError: shapes or heads differ.
    """
    heads, teacher_heads = (model.config.num_attention_heads for model in (student, teacher))
    same_width = student.config.hidden_size == teacher.config.hidden_size
    if initialization != "embeddings" and same_width and heads != teacher_heads:
        raise InputError(
            f"initialization: {initialization} copies layers, and those of the teacher's "
            f"{teacher_heads} heads mean nothing to {heads}; start blank or from the embeddings"
        )
    sources = layer_map(
        initialization, student.config.num_hidden_layers, teacher.config.num_hidden_layers
    )
    matrix = student.get_input_embeddings().weight
    for name, target in student.state_dict(keep_vars=True).items():
        layer = LAYER.match(name)
        of_tokens = target is matrix or "embedding" in name
        if initialization == "embeddings" and (layer or not of_tokens):
            continue
        source = name
        if layer:
            source = f"{layer['before']}{sources[int(layer['index'])]}{layer['after']}"
        if weights[source].shape != target.shape:
            raise InputError(
                f"initialization: {initialization} copies {name}, whose shape is "
                f"{tuple(target.shape)} in the student and {tuple(weights[source].shape)} in "
                "the teacher; a student of another width starts blank"
            )
        target.data.copy_(weights[source])
