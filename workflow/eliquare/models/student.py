"""Make the student at its start: its shape, and which parts begin as the teacher's.

python -m eliquare.models.student --teacher T --layers 6 --initialisation 2n-1 --output O
"""

import argparse
import re

import torch
import transformers
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel

from eliquare import stage
from eliquare.models.loading import load_masked_model, load_tokenizer

VERSION = 1

INITIALISATIONS = ["2n-1", "distilbert", "last", "first", "blank", "embeddings"]
LAYER = re.compile(r"^(?P<before>.*\.layers?\.)(?P<number>\d+)(?P<after>\..*)$")


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True, help="model folder of the teacher")
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--hidden-size", type=int, help="default: the teacher's")
    parser.add_argument("--intermediate-size", type=int, help="default: the teacher's")
    parser.add_argument("--heads", type=int, help="default: the teacher's")
    parser.add_argument("--initialisation", choices=INITIALISATIONS, default="2n-1")
    parser.add_argument("--seed", type=int, default=1, help="of what starts at random")
    parser.add_argument("--output", required=True, help="folder to make")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Make the student and save it beside the teacher's tokenizer."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    teacher = load_masked_model(arguments.teacher)
    config = student_config(teacher.config, arguments)
    transformers.set_seed(arguments.seed)
    student = AutoModelForMaskedLM.from_config(config)
    initialise(student, teacher, arguments.initialisation)
    paths = ("teacher", "output")
    settings = {name: value for name, value in vars(arguments).items() if name not in paths}
    with stage.whole_folder(arguments.output) as partial:
        student.save_pretrained(partial)
        load_tokenizer(arguments.teacher).save_pretrained(partial)
        provenance = stage.provenance(settings, {"teacher": arguments.teacher})
        stage.write_json(partial / "provenance.json", provenance)


def student_config(teacher: PretrainedConfig, arguments: argparse.Namespace) -> PretrainedConfig:
    """The teacher's configuration with the student's shape; raises InputError if it cannot be."""
    if not 1 <= arguments.layers <= teacher.num_hidden_layers:
        raise stage.InputError(
            f"layers: {arguments.layers} asked for, and the teacher {arguments.teacher} has "
            f"{teacher.num_hidden_layers}; a student has at least 1 and no more than its teacher"
        )
    config = teacher.__class__.from_dict(teacher.to_dict())
    config.num_hidden_layers = arguments.layers
    if getattr(config, "layer_types", None):
        # ModernBERT: which layers attend to the whole text; a copied layer stays of its kind.
        mapped = layer_map(arguments.initialisation, arguments.layers, teacher.num_hidden_layers)
        kinds = teacher.layer_types
        config.layer_types = [kinds[number] for number in mapped or range(arguments.layers)]
    intermediate = "hidden_dim" if hasattr(config, "hidden_dim") else "intermediate_size"
    for option, name in (
        ("hidden_size", "hidden_size"),
        ("intermediate_size", intermediate),
        ("heads", "num_attention_heads"),
    ):
        value = getattr(arguments, option)
        if value is not None:
            if value < 1:
                raise stage.InputError(f"{option}: expected 1 or more, found {value}")
            setattr(config, name, value)
    if config.hidden_size % config.num_attention_heads:
        raise stage.InputError(
            f"hidden_size: {config.hidden_size} is no multiple of "
            f"{config.num_attention_heads} heads"
        )
    return config


def layer_map(initialisation: str, layers: int, of: int) -> list[int]:
    """The teacher layer (from 0) that each student layer starts as; empty for none.

    "2n-1": layer n from layer 2n-1, counted from 1 (electronics2023). "distilbert": spread evenly,
    first and last included: 0, 2, 4, 7, 9, 11 for 6 of 12 (DistilBERT's extraction script, and its
    generalisation to other depths).
    """
    if initialisation == "2n-1":
        if 2 * layers - 1 > of:
            raise stage.InputError(
                f"initialisation: 2n-1 takes layer {2 * layers - 1} of the teacher for layer "
                f"{layers}, and the teacher has {of}; use first, last or distilbert"
            )
        return [2 * number for number in range(layers)]
    if initialisation == "distilbert":
        return [round(number * (of - 1) / max(layers - 1, 1)) for number in range(layers)]
    if initialisation == "first":
        return list(range(layers))
    if initialisation == "last":
        return list(range(of - layers, of))
    return []


@torch.no_grad()
def initialise(student: PreTrainedModel, teacher: PreTrainedModel, initialisation: str) -> None:
    """Copy the teacher's weights into the student as the initialisation says.

    "blank" copies nothing, "embeddings" the embeddings alone (with what is tied to them), the
    others the embeddings, the head and the mapped layers. Raises InputError where the shapes
    or the heads differ: a narrower student can only start blank.
    """
    if initialisation == "blank":
        return
    layers = student.config.num_hidden_layers
    heads = student.config.num_attention_heads, teacher.config.num_attention_heads
    if initialisation != "embeddings" and heads[0] != heads[1]:
        raise stage.InputError(
            f"initialisation: {initialisation} copies layers, and those of the teacher's "
            f"{heads[1]} heads mean nothing to {heads[0]}; start blank or from the embeddings"
        )
    mapped = layer_map(initialisation, layers, teacher.config.num_hidden_layers)
    from_teacher = teacher.state_dict()
    for name, weights in student.state_dict().items():
        layer = LAYER.match(name)
        if layer and not mapped:
            continue
        if initialisation == "embeddings" and "embedding" not in name:
            continue
        source = name
        if layer:
            source = f"{layer['before']}{mapped[int(layer['number'])]}{layer['after']}"
        if from_teacher[source].shape != weights.shape:
            raise stage.InputError(
                f"initialisation: {initialisation} copies {name}, whose shape is "
                f"{tuple(weights.shape)} in the student and {tuple(from_teacher[source].shape)} in "
                "the teacher; a student of another width starts blank"
            )
        weights.copy_(from_teacher[source])


if __name__ == "__main__":
    stage.main(parser(), run)
