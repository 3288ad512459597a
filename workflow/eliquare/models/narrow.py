"""Start a student that is narrower than its teacher from the teacher's weights.

Hidden states are projected on their first principal components, as in Gurgurov et al. (2025), who
truncate a singular value decomposition: ``basis[width, narrow width]``. Weights that read hidden
states, or write them, are multiplied with it. Of the attention heads and the feed-forward neurons
those stay that add most to the hidden states of a sample of text. Layer normalization does not
commute with a change of basis; its weight and bias are those that fit the teacher's output best on
the sample, by least squares for each component.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import layer_norm
from transformers import PreTrainedModel

from eliquare.io import InputError

# Modules of a layer, as BERT, ELECTRA, RoBERTa, XLM-R and DistilBERT name them.
READS_HEADS = re.compile(r"attention\.(output\.dense|out_lin)$")
WRITES_HEADS = re.compile(r"attention\.(self\.)?(query|key|value|q_lin|k_lin|v_lin)$")
READS_NEURONS = re.compile(r"(?<!attention\.)(output\.dense|ffn\.lin2)$")
WRITES_NEURONS = re.compile(r"(intermediate\.dense|ffn\.lin1)$")

Batches = list[dict[str, torch.Tensor]]
Weights = dict[str, torch.Tensor]


def narrowed(
    teacher: PreTrainedModel, batches: Batches, width: int, heads: int, neurons: int
) -> Weights:
    """Return the weights of all layers of a teacher for a model of less width, by their names.

    Args:
        teacher: The teacher.
        batches: ``input_ids`` and ``attention_mask`` ``[texts, tokens]`` of the sample.
        width: Width of the hidden states; the teacher's, or less.
        heads: Attention heads, of the teacher's size.
        neurons: Neurons of each feed-forward part.

    Raises:
        InputError: the teacher's layers are of another kind, or its heads of another size.
    """
    config: Any = teacher.config
    size = config.hidden_size // config.num_attention_heads
    if width != heads * size:
        raise InputError(
            f"num_attention_heads: {heads} heads of the teacher's size, {size}, make a width of "
            f"{heads * size}, and hidden_size is {width}; change one, or write initialization: "
            "blank"
        )
    check_names(teacher)
    teacher = teacher.eval()
    basis = principal_components(teacher, batches)[:, :width]
    if width == config.hidden_size:
        basis = torch.eye(width)
    kept = most_important(teacher, batches, size, heads, neurons)
    found: Weights = {}
    fitted = fitted_norms(teacher, batches, basis) if width < config.hidden_size else {}
    for module_name, module in teacher.named_modules():
        for kind, tensor in module.named_parameters(recurse=False):
            name = f"{module_name}.{kind}"
            value = fitted[module_name][kind] if module_name in fitted else tensor.detach()
            if READS_HEADS.search(module_name) or READS_NEURONS.search(module_name):
                value = value[:, kept[module_name]] if kind == "weight" else value
                value = basis.T @ value
            elif writer := WRITES_HEADS.search(module_name) or WRITES_NEURONS.search(module_name):
                value = value[kept[read_by(module_name, writer, kept)]]
                value = value @ basis if kind == "weight" else value
            elif isinstance(module, nn.Embedding) and value.shape[1] == config.hidden_size:
                value = value @ basis
            elif isinstance(module, nn.Linear):
                if value.shape[0] == config.hidden_size:
                    value = basis.T @ value
                if value.ndim == 2 and value.shape[1] == config.hidden_size:
                    value = value @ basis
            found[name] = value
    # Tied weights have several names.
    by_place = {tensor.data_ptr(): name for name, tensor in teacher.named_parameters()}
    for name, tensor in teacher.state_dict().items():
        if name not in found and tensor.data_ptr() in by_place:
            found[name] = found[by_place[tensor.data_ptr()]]
    return found


def check_names(teacher: PreTrainedModel) -> None:
    """Raise InputError where a linear part of a layer has no known place."""
    known = (READS_HEADS, WRITES_HEADS, READS_NEURONS, WRITES_NEURONS)
    for name, module in teacher.named_modules():
        is_norm = isinstance(module, nn.LayerNorm)
        of_layer = re.search(r"\.layers?\.\d+\.", name) and [*module.parameters(recurse=False)]
        if of_layer and not is_norm and not any(pattern.search(name) for pattern in known):
            raise InputError(
                f"hidden_size: a student of {type(teacher).__name__} cannot start narrower "
                "than its teacher; write initialization: blank"
            )


def read_by(module: str, writer: re.Match[str], kept: Mapping[str, torch.Tensor]) -> str:
    """Return the module that reads what another writes, in the same layer."""
    layer = module[: writer.start()]
    pattern = READS_HEADS if WRITES_HEADS.search(module) else READS_NEURONS
    return next(name for name in kept if name.startswith(layer) and pattern.search(name))


def principal_components(teacher: PreTrainedModel, batches: Batches) -> torch.Tensor:
    """Return the directions of the hidden states, ``[width, width]``, the largest variance first.

    About zero and not the mean, which the student has to hold too.
    """
    moment = torch.zeros(teacher.config.hidden_size, teacher.config.hidden_size).double()
    for batch in batches:
        with torch.inference_mode():
            states = teacher.base_model(**batch, output_hidden_states=True).hidden_states
        for layer in states:
            tokens = layer[batch["attention_mask"].bool()].double()
            moment += tokens.T @ tokens
    directions: torch.Tensor = torch.linalg.eigh(moment).eigenvectors
    return directions.flip(1).float()


@contextmanager
def inputs_and_outputs(modules: Iterable[nn.Module], see: Any) -> Iterator[None]:
    """Call ``see(module, input, output)`` whenever one of the modules runs."""
    with ExitStack() as stack:
        for module in modules:
            handle = module.register_forward_hook(
                lambda module, inputs, output: see(module, inputs[0], output)
            )
            stack.callback(handle.remove)
        yield


def most_important(
    teacher: PreTrainedModel, batches: Batches, size: int, heads: int, neurons: int
) -> dict[str, torch.Tensor]:
    """Return the inputs that stay of each module that reads heads or neurons, in order.

    The importance of a head, or of a neuron, is the squared length of what it adds to the hidden
    states, summed over the tokens of the sample.
    """
    groups = {}
    for name, module in teacher.named_modules():
        if READS_HEADS.search(name):
            groups[name] = (module, size, heads)
        elif READS_NEURONS.search(name):
            groups[name] = (module, 1, neurons)
    added: dict[nn.Module, Any] = defaultdict(float)
    sizes = {module: size for module, size, _ in groups.values()}
    seen: list[torch.Tensor] = []

    def see(module: nn.Module, states: torch.Tensor, _: torch.Tensor) -> None:
        parts = states[seen[-1].bool()].unflatten(-1, (-1, sizes[module])).double()
        weight: torch.Tensor = module.weight.double()  # type: ignore[operator,assignment]
        blocks = weight.unflatten(1, (-1, sizes[module]))
        gram = torch.einsum("wgi,wgj->gij", blocks, blocks)
        added[module] += torch.einsum("tgi,gij,tgj->g", parts, gram, parts)

    with torch.inference_mode(), inputs_and_outputs(sizes, see):
        for batch in batches:
            seen.append(batch["attention_mask"])
            teacher.base_model(**batch)
    kept = {}
    for name, (module, group, number) in groups.items():
        if number > len(added[module]):
            raise InputError(
                f"the student has {number} heads or neurons, and its teacher {len(added[module])}; "
                "a student is no wider than its teacher"
            )
        best = added[module].topk(number).indices.sort().values
        kept[name] = (best[:, None] * group + torch.arange(group)).flatten()
    return kept


def fitted_norms(
    teacher: PreTrainedModel, batches: Batches, basis: torch.Tensor
) -> dict[str, dict[str, torch.Tensor]]:
    """Return weight and bias of each layer normalization after the change of basis.

    Those of least squares from the normalized inputs, in the basis, to the outputs in the basis.
    """
    names: dict[nn.Module, str] = {
        module: name
        for name, module in teacher.named_modules()
        if isinstance(module, nn.LayerNorm) and module.normalized_shape == (len(basis),)
    }
    sums: dict[nn.Module, list[torch.Tensor]] = {}
    seen: list[torch.Tensor] = []

    def see(module: nn.Module, states: torch.Tensor, output: torch.Tensor) -> None:
        mask = seen[-1].bool()
        narrow = states[mask] @ basis if states.shape[:2] == mask.shape else states @ basis
        target = (output[mask] if output.shape[:2] == mask.shape else output) @ basis
        x = layer_norm(narrow, narrow.shape[-1:]).double().flatten(0, -2)
        y = target.double().flatten(0, -2)
        found = [torch.full_like(x[0], len(x)), x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0)]
        old = sums.get(module)
        sums[module] = found if old is None else [a + b for a, b in zip(old, found, strict=True)]

    with torch.inference_mode(), inputs_and_outputs(names, see):
        for batch in batches:
            seen.append(batch["attention_mask"])
            teacher(**batch)
    fitted = {}
    for module, (n, x, y, xx, xy) in sums.items():
        weight = (xy - x * y / n) / (xx - x * x / n).clamp_min(1e-12)
        fitted[names[module]] = {
            "weight": weight.float(),
            "bias": ((y - weight * x) / n).float(),
        }
    return fitted
