"""What a model makes of sentences: hidden states and MLM logits, with few of its rows in memory."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from eliquare.vocabulary.stored import read_rows, stored_tensors
from eliquare.vocabulary.weights import has_head, load_model

POSITIONS_PER_SENTENCE = 8
BATCH = 4

Outputs = list[tuple[torch.Tensor, torch.Tensor | None]]


class RowsOfEmbedding(nn.Module):
    """An embedding that holds the rows of some sub-words alone.

    ``ids``: (n), ascending; ``rows``: (n, width).
    """

    def __init__(self, ids: torch.Tensor, rows: torch.Tensor) -> None:
        super().__init__()
        self.ids, self.rows = ids, rows

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.rows[torch.searchsorted(self.ids, ids)]


@torch.inference_mode()
def outputs(
    folder: str | Path, sentences: list[list[int]], rows: list[int], padding: int | None
) -> Outputs:
    """What the model in a folder makes of each sentence (ids), in float32.

    For each the last hidden states, (length, width), and for some of its positions the logits at
    the given rows, (positions, rows); None without an MLM head. Sentences share a batch where there
    is a padding token, so that two models are run on the same shapes.
    """
    model = load_model(folder, torch.float32)
    used = sorted({padding or 0}.union(*sentences))
    narrowed = narrow(model, folder, used, rows)
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


def narrow(model: PreTrainedModel, folder: str | Path, used: list[int], rows: list[int]) -> bool:
    """Leave the model with the embeddings of the ``used`` ids and the ``rows`` of its MLM head.

    Each logit hangs on its own row only, and the whole of embeddings and head would be most of the
    model. ``used`` ascends. Returns whether the head could be narrowed; where its layout is another
    one, which may use the embeddings, both stay whole.
    """
    embedding = model.get_input_embeddings()
    head = model.get_output_embeddings() if has_head(model) else None
    known_head = isinstance(head, nn.Linear) and len(head.weight) == model.config.vocab_size
    if type(embedding) is not nn.Embedding or (has_head(model) and not known_head):
        return False
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    stored = stored_tensors(folder) if any(Path(folder).glob("model*.safetensors")) else {}

    def some_rows(parameter: nn.Parameter, wanted: list[int]) -> nn.Parameter:
        read = read_rows(stored.get(names[id(parameter)]), wanted)
        read = parameter.detach()[wanted] if read is None else read
        return nn.Parameter(read.to(parameter.dtype), requires_grad=False)

    embedded = some_rows(embedding.weight, used)
    model.set_input_embeddings(RowsOfEmbedding(torch.tensor(used), embedded))
    if head is not None:
        head.weight = some_rows(head.weight, rows)
        head.bias = None if head.bias is None else some_rows(head.bias, rows)
    return head is not None
