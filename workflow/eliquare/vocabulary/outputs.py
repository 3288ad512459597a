"""What a model makes of sentences: hidden states and MLM logits, with little of it in memory."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from eliquare.vocabulary.stored import MappedTensors
from eliquare.vocabulary.weights import has_head, load_model

POSITIONS_PER_SENTENCE = 8
BATCH = 4

Outputs = list[tuple[torch.Tensor, torch.Tensor | None]]


@torch.inference_mode()
def outputs(
    folder: str | Path, sentences: list[list[int]], rows: list[int], padding: int | None
) -> Outputs:
    """What the model in a folder makes of each sentence (ids), in float32.

    For each the last hidden states, (length, width), and for some of its positions the logits at
    the given rows, (positions, rows); None without an MLM head. Sentences share a batch where there
    is a padding token, so that two models are run on the same shapes.
    """
    model = load_by_layer(folder)
    narrowed = narrow_head(model, rows)
    # A hook, since a model that returns its hidden states keeps those of every layer.
    last: list[torch.Tensor] = []
    model.base_model.register_forward_hook(lambda *of: last.append(of[2][0]))
    results = []
    together = 1 if padding is None else BATCH
    for start in range(0, len(sentences), together):
        batch = sentences[start : start + together]
        longest = max(map(len, batch))
        ids = torch.tensor([s + [padding or 0] * (longest - len(s)) for s in batch])
        real = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in batch])
        output = model(input_ids=ids, attention_mask=real)
        hidden = last.pop()
        for place, sentence in enumerate(batch):
            logits, size = None, len(sentence)
            if has_head(model):
                positions = torch.linspace(0, size - 1, POSITIONS_PER_SENTENCE).long().unique()
                logits = output.logits[place, positions]
                logits = (logits if narrowed else logits[:, rows]).clone()
            results.append((hidden[place, :size].clone(), logits))
    return results


def load_by_layer(folder: str | Path) -> PreTrainedModel:
    """The model in float32; of weights in safetensors, those of one layer are in memory at a time.

    Weights of another precision are converted, and stay in memory.
    """
    if not any(Path(folder).glob("model*.safetensors")):
        return load_model(folder, torch.float32)
    mapped = MappedTensors(folder)
    model = load_model(folder, torch.float32, mapped.tensors)
    for module in model.modules():
        for layer in module if isinstance(module, nn.ModuleList) else ():
            layer.register_forward_hook(lambda *of: mapped.release())
    return model


def narrow_head(model: PreTrainedModel, rows: list[int]) -> bool:
    """Leave the MLM head with the given rows alone, in any order: each logit hangs on its own row.

    The product with all rows would take as much memory as the embeddings. Returns whether a head of
    this layout could be narrowed.
    """
    head = model.get_output_embeddings() if has_head(model) else None
    if not isinstance(head, nn.Linear) or len(head.weight) != model.config.vocab_size:
        return False
    head.weight = nn.Parameter(head.weight[rows], requires_grad=False)
    head.bias = (
        head.bias if head.bias is None else nn.Parameter(head.bias[rows], requires_grad=False)
    )
    return True
