"""Load models and tokenizers, with plain errors for folders that cannot be used."""

import copy
import logging
import mmap
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from eliquare.faults import refused
from eliquare.io import InputError, existing, read_json

# Published DeBERTa-v3 models store their MLM head under this name.
DEBERTA_V3_HEAD = "lm_predictions."
HEADS_OF_TASKS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
# To make a module for each of a million layers takes hours.
MOST_LAYERS = 10_000

logger = logging.getLogger(__name__)


def quiet() -> None:
    """Silence the warnings and progress bars of transformers; errors still show."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def from_pretrained(kind: Any, what: str, folder: str | Path, **options: Any) -> Any:
    """Return what a class of transformers loads from a folder; InputError where that fails.

    Code in the folder is never run, and nobody is asked whether it may be.
    """
    # A model takes its weights from the folder or as an option, not both.
    source = None if "state_dict" in options else folder
    with refused(f"{folder}: no {what} loads from it"):
        return kind.from_pretrained(source, trust_remote_code=False, **options)


def load_weights(kind: Any, folder: str | Path, **options: Any) -> tuple[Any, list[str]]:
    """Return a model of a class of transformers, and its weights that the folder lacks.

    These are drawn from torch's generator, and of the head alone, or of a pooler; so are those of
    a head of another size.

    Raises:
        InputError: no model loads, weights of the encoder are missing or of other shapes than
            config.json says, or some are not finite.
    """
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, loading = from_pretrained(kind, "model", folder, **options)
    mismatched = sorted(str(name) for name, *_ in loading["mismatched_keys"])
    missing = sorted({*loading["missing_keys"], *mismatched})
    missing = [name for name in missing if name in mismatched or "pooler" not in name]
    encoder = tuple(
        name
        for name in missing
        if name.startswith(f"{model.base_model_prefix}.") or not has_mlm_head(model)
    )
    if encoder:
        problem = "have other shapes for" if {*encoder} & {*mismatched} else "lack"
        raise InputError(
            f"{folder}: the weights {problem} {', '.join(encoder[:3])}; they are incomplete, or "
            "not of the model that config.json names"
        )
    # Weights that are given may be mapped files, of which a part alone is to be in memory.
    read = [] if "state_dict" in options else model.named_parameters()
    for name, tensor in read:
        if tensor.is_floating_point() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise InputError(
                f"{folder}: {name} is not finite (nan or inf); the weights are damaged, or of a "
                "training that went wrong"
            )
    return model, missing


def load_config(folder: str | Path) -> PreTrainedConfig:
    """Load the configuration of a language model.

    Published DeBERTa-v3 models need ``legacy: false`` for their head to be read, which their
    configuration does not say; it is set where that head is stored.

    Raises:
        InputError: there is no configuration, or it has no vocabulary.
    """
    if not (Path(folder) / "config.json").exists():
        raise InputError(f"{folder}: no model here (config.json is missing)")
    found = read_json(Path(folder) / "config.json")
    layers = found.get("num_hidden_layers")
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise InputError(f"{folder}/config.json: num_hidden_layers {layers}; no model has so many")
    config: PreTrainedConfig = from_pretrained(AutoConfig, "model configuration", folder)
    if getattr(config, "vocab_size", None) is None:
        raise InputError(f"{folder}/config.json: has no vocab_size; this is no language model")
    if getattr(config, "legacy", False) and any(Path(folder).glob("model*.safetensors")):
        names = map_weights(folder).tensors
        config.legacy = not any(name.startswith(DEBERTA_V3_HEAD) for name in names)
    return config


class MappedWeights(NamedTuple):
    """The tensors of a model's files by name; each is read when it is used. Write to none."""

    tensors: dict[str, torch.Tensor]
    maps: list[mmap.mmap]

    def release(self) -> None:
        """Give back the memory of what was read; it is read again when it is used again."""
        for mapped in self.maps:
            mapped.madvise(mmap.MADV_DONTNEED)


def map_weights(folder: str | Path) -> MappedWeights:
    """Map the weights of a folder, safetensors or older ones (whose memory stays when released).

    Raises:
        InputError: there are no weights, or a file is damaged.
    """
    weights = MappedWeights({}, [])
    for file in sorted(Path(folder).glob("model*.safetensors")):
        with (
            refused(f"{file}: damaged or cut short"),
            safe_open(file, framework="pt") as opened,
            file.open("rb") as content,
        ):
            mapped = mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_COPY)
            weights.maps.append(mapped)
            # The format has no gaps: the last tensor ends with the file.
            offset = len(mapped)
            for name in reversed(opened.offset_keys()):
                tensor = opened.get_tensor(name)
                offset -= tensor.nbytes
                if tensor.numel():
                    values = torch.frombuffer(
                        mapped, dtype=tensor.dtype, count=tensor.numel(), offset=offset
                    )
                    tensor = values.view(tensor.shape)
                weights.tensors[name] = tensor
    if weights.tensors:
        return weights
    seen: set[int] = set()
    for file in sorted(Path(folder).glob("pytorch_model*.bin")):
        with refused(f"{file}: does not load", "; save it as safetensors"):
            # Of a pickle, only tensors are read: anything else in it could run as code.
            state = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
        if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
            raise InputError(f"{file}: expected tensors by name; save it as safetensors")
        for name, tensor in state.items():
            # Tied tensors share their memory; a model ties them again when it loads.
            if tensor.data_ptr() not in seen:
                weights.tensors[name] = tensor.contiguous()
            seen.add(tensor.data_ptr())
    if not weights.tensors:
        raise InputError(
            f"{folder}: no weights here (expected model.safetensors or pytorch_model.bin)"
        )
    return weights


def load_fast_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load the fast tokenizer of a folder as AutoTokenizer gives it.

    Its backend neither truncates nor pads, as some folders say: whoever wants that asks for it.

    Raises:
        InputError: no tokenizer loads, or it is not a fast one.
    """
    # A path that is no folder would be looked up on a hub.
    existing(folder, "model folder with a tokenizer")
    tokenizer = from_pretrained(AutoTokenizer, "tokenizer", folder)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(
            f"{folder}: its tokenizer is not a fast one; expected a tokenizer.json, or a "
            "tokenizer that transformers can convert to one"
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        found = tokenizer.model_max_length
        raise InputError(
            f"{folder}/tokenizer_config.json: model_max_length: expected a number, found {found!r}"
        )
    # Whether HF_HUB_OFFLINE was set, which a saved tokenizer would tell: the bytes are the same.
    tokenizer.init_kwargs.pop("local_files_only", None)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer for masked language modelling: it has a padding and a mask token.

    Raises:
        InputError: as ``load_fast_tokenizer``, or a token is missing.
    """
    tokenizer = load_fast_tokenizer(folder)
    for name in ("pad_token_id", "mask_token_id"):
        if getattr(tokenizer, name) is None:
            raise InputError(f"{folder}: the tokenizer has no {name}")
    return tokenizer


def load_model(
    folder: str | Path,
    dtype: torch.dtype | str = "auto",
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> PreTrainedModel:
    """Load a masked language model in evaluation mode; bare where no MLM head is stored.

    Args:
        folder: a model folder.
        dtype: precision of the weights; ``auto`` is that of the files.
        tensors: the weights, if they are not to be read from the files.

    Raises:
        InputError: the folder holds no model, or weights of the encoder are missing.
    """
    quiet()
    config = load_config(folder)
    options: dict[str, Any] = {"config": config, "dtype": dtype}
    kind: Any = automatic_class(config)
    if tensors is not None:
        # The automatic classes want a folder.
        kind, options["state_dict"] = type(empty_model(config)), dict(tensors)
    model, missing = load_weights(kind, folder, **options)
    loaded: PreTrainedModel = model.base_model if missing else model
    loaded.eval()
    return loaded


def load_masked_lm(folder: str | Path) -> PreTrainedModel:
    """Load a masked language model in float32, its stored MLM head included.

    Raises:
        InputError: as ``load_model``, or no MLM head is stored: a head made up at loading would
            teach the student noise.
    """
    model = load_model(folder, torch.float32)
    if not has_mlm_head(model):
        names = read_json(Path(folder) / "config.json").get("architectures") or ["a bare encoder"]
        raise InputError(
            f"{folder}: {', '.join(names)} has no head for masked language modelling, so it cannot "
            "teach; choose a model saved as …ForMaskedLM, or give the pooling of a sentence encoder"
        )
    return model


def load_with_head(folder: str | Path) -> tuple[PreTrainedModel, bool]:
    """Load a masked language model in float32; where no MLM head is stored, with a new one.

    The weights of a new head are drawn from torch's generator.

    Returns:
        The model, and whether its head is new.

    Raises:
        InputError: as ``load_model``, or the architecture has no masked form.
    """
    model = load_model(folder, torch.float32)
    if has_mlm_head(model):
        return model, False
    if automatic_class(model.config) is AutoModel:
        raise InputError(
            f"{folder}: {type(model).__name__} has no form with a head for masked language "
            "modelling; choose a BERT, DistilBERT, RoBERTa, XLM-R or ModernBERT model"
        )
    complete: PreTrainedModel = AutoModelForMaskedLM.from_config(
        model.config, dtype=torch.float32, trust_remote_code=False
    )
    # A pooler, which masked language models lack, is left behind.
    complete.base_model.load_state_dict(model.state_dict(), strict=False)
    complete.tie_weights()
    complete.eval()
    return complete, True


def load_for_task(folder: str | Path, labels: Sequence[str], *, per_token: bool) -> PreTrainedModel:
    """Load any encoder in float32 with a new head for a task, drawn from torch's generator.

    Args:
        folder: a model folder; a head for another task that is stored there is left out.
        labels: names of the labels, in the order of the head's outputs.
        per_token: one label for each token, else one for each text.

    Raises:
        InputError: the model does not load.
    """
    quiet()
    head: Any = AutoModelForTokenClassification if per_token else AutoModelForSequenceClassification
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": None,  # a stored one would decide the loss
    }
    model: PreTrainedModel = load_weights(head, folder, dtype=torch.float32, **names)[0]
    stored = read_json(Path(folder) / "config.json").get("architectures") or [""]
    if stored[0].endswith(HEADS_OF_TASKS):
        # Its head may fit in size, and its labels are other ones.
        new: PreTrainedModel = head.from_config(
            model.config, dtype=torch.float32, trust_remote_code=False
        )
        new.base_model.load_state_dict(model.base_model.state_dict())
        new.eval()
        return new
    return model


def has_mlm_head(model: PreTrainedModel) -> bool:
    """Return whether a loaded model is more than its bare encoder."""
    return model.base_model is not model


def max_sequence_length(model: PreTrainedModel) -> int:
    """Return how many tokens the model takes, special tokens included.

    ``sys.maxsize`` for a model that sets no limit.
    """
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:
        return sys.maxsize
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            # RoBERTa and XLM-R count positions from the padding id + 1.
            return positions - int(padding) - 1
    return positions


def automatic_class(config: PreTrainedConfig) -> Any:
    """Return AutoModelForMaskedLM, or AutoModel for an architecture without a masked form."""
    known = type(config) in AutoModelForMaskedLM._model_mapping
    return AutoModelForMaskedLM if known else AutoModel


def empty_model(config: PreTrainedConfig, vocab_size: int | None = None) -> PreTrainedModel:
    """Return a configuration's model without weights, with another vocabulary size if given."""
    config = copy.deepcopy(config)
    config.vocab_size = vocab_size or config.vocab_size
    with refused(f"{config.name_or_path}: config.json makes no model"), torch.device("meta"):
        model: PreTrainedModel = automatic_class(config).from_config(
            config, trust_remote_code=False
        )
    return model


def parameter_count(config: PreTrainedConfig, head: bool = True) -> int:
    """Count the parameters of a configuration's model, tied ones once, with its MLM head or not."""
    model = empty_model(config)
    return sum(p.numel() for p in (model if head else model.base_model).parameters())


def vocabulary_tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the tensors with a row per token: embeddings, output weights and biases, by name.

    No table of model families: an empty model with one token more shows which shapes change.
    """
    full = empty_model(model.config, model.config.vocab_size + 1)
    wider = full if has_mlm_head(model) else full.base_model
    shapes = {name: tensor.shape for name, tensor in wider.state_dict().items()}
    return {
        name: tensor for name, tensor in model.state_dict().items() if shapes[name] != tensor.shape
    }
