"""A student as it starts: its shape, and which parts start as the teacher's."""

import re
from typing import get_args

import torch
import transformers
from transformers import AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from eliquare.config.model import Initialization, StudentShape
from eliquare.io import InputError

INITIALIZATIONS = get_args(Initialization)
LAYER = re.compile(r"^(?P<before>.*\.layers?\.)(?P<index>\d+)(?P<after>\..*)$")


def new_student(teacher: PreTrainedModel, shape: StudentShape, seed: int) -> PreTrainedModel:
    """Return a student of this shape; ``seed`` decides the weights that start at random.

    Raises:
        InputError: no student of this shape can be made of this teacher.
    """
    config = student_config(teacher.config, shape)
    transformers.set_seed(seed)
    student: PreTrainedModel = AutoModelForMaskedLM.from_config(config, trust_remote_code=False)
    copy_weights(student, teacher, shape.initialization)
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
    intermediate = "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size"
    for name, value in (
        ("hidden_size", shape.hidden_size),
        (intermediate, shape.intermediate_size),
        ("num_attention_heads", shape.num_attention_heads),
    ):
        if value is not None:
            setattr(config, name, value)
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


@torch.no_grad()
def copy_weights(student: PreTrainedModel, teacher: PreTrainedModel, initialization: str) -> None:
    """Copy the teacher's weights into the student as the initialization says.

    ``blank`` copies nothing, ``embeddings`` the embeddings alone (with the weights tied to them),
    the others the embeddings, the head and the mapped layers.

    Raises:
        InputError: shapes or heads differ; a student of another width can only start blank.
    """
    if initialization == "blank":
        return
    heads, teacher_heads = (model.config.num_attention_heads for model in (student, teacher))
    if initialization != "embeddings" and heads != teacher_heads:
        raise InputError(
            f"initialization: {initialization} copies layers, and those of the teacher's "
            f"{teacher_heads} heads mean nothing to {heads}; start blank or from the embeddings"
        )
    sources = layer_map(
        initialization, student.config.num_hidden_layers, teacher.config.num_hidden_layers
    )
    weights = teacher.state_dict()
    for name, target in student.state_dict().items():
        layer = LAYER.match(name)
        if initialization == "embeddings" and (layer or "embedding" not in name):
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
        target.copy_(weights[source])
