"""Export a model for ONNX Runtime: in int8 where its score allows that, else in float32.

    eliquare export onnx --model FOLDER --text TEXT --output FOLDER

The folder has the layout that optimum, sentence-transformers and transformers.js read: tokenizer
and configuration, and ``onnx/model_quantized.onnx`` (int8) or ``onnx/model.onnx`` (float32), of
which one is kept. ``onnx/report.json`` says which, why, and what each scores and takes.

The exporter is torch's older one, by tracing. The newer one, which transformers' ``OnnxExporter``
uses too, takes ten seconds for a model of any size instead of a third of one, needs two packages
more, and its graphs run no faster; what is written here is compared with the model before it is
kept, whichever exporter made it.
"""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from eliquare import cli
from eliquare.config.base import Problem
from eliquare.config.model import Benchmark
from eliquare.corpus.documents import sample_texts
from eliquare.evaluation import benchmark, data
from eliquare.evaluation.encoding import encode
from eliquare.evaluation.finetune import Task
from eliquare.evaluation.trainer import score
from eliquare.io import Failure, InputError, atomic_dir, provenance, write_json
from eliquare.models.loading import (
    load_config,
    load_fast_tokenizer,
    load_weights,
    max_sequence_length,
    quiet,
)
from eliquare.models.sentence import Sentence, copy_sentence_files, read_sentence

FLOAT, INT8 = "model.onnx", "model_quantized.onnx"
FOLDER, REPORT = "onnx", "report.json"
OPSET = 18
# The largest difference from the model's own output, in parts of the largest number of that output.
TOLERANCE = 1e-4
TEXTS = 128
COMPARED_TEXTS = 16
MAX_LENGTH = 128
TEXTS_PER_BATCH = 16
MASK_EVERY = 7

Head = Literal["fill-mask", "token-classification", "text-classification", "feature-extraction"]
# What is done with a model, as `pipeline` calls it: its class and the end of the class's name.
HEADS: dict[Head, tuple[Any, str]] = {
    "fill-mask": (AutoModelForMaskedLM, "ForMaskedLM"),
    "token-classification": (AutoModelForTokenClassification, "ForTokenClassification"),
    "text-classification": (AutoModelForSequenceClassification, "ForSequenceClassification"),
    "feature-extraction": (AutoModel, "Model"),
}
Batch = Mapping[str, NDArray[np.int64]]
Output = NDArray[np.float32]

logger = logging.getLogger(__name__)


class OnnxOptions(cli.Options, Benchmark):
    """Options of ``export onnx``."""

    model: Path = Field(description="Model folder.")
    head: Head | None = Field(None, description="The head that it must have; by default its own.")
    text: Path | None = Field(
        None,
        description="Text of the language, to calibrate and compare on: a documents folder, or a "
        "text file with one text per line; by default the training split of the task.",
    )
    task: Task | None = Field(
        None,
        description="The task that the model was fine-tuned on, as JSON: int8 is judged on its "
        "validation split, and scored on its test split.",
    )
    int8: bool = Field(True, description="Try int8.")
    margin: float = Field(
        0.01, ge=0, lt=1, description="int8 is kept if its score is lower by no more than this."
    )
    output: Path = Field(description="Folder to make.")

    def problems(self) -> Iterator[Problem]:
        """Yield a margin that nothing is kept by."""
        if "margin" in self.model_fields_set and not self.int8:
            yield ("margin",), "int8 is not tried; leave one of the two out"


class Judge(NamedTuple):
    """How a model is scored, on what is validated and on what is only reported.

    Attributes:
        metric: name of the score; higher is better, 1 is best.
        split: where it is computed.
        scores: gives the score of each split of a model; ``validation`` decides.
    """

    metric: str
    split: str
    scores: Callable[["Session"], dict[str, float]]


class Session:
    """An ONNX model that runs on the processor.

    Attributes:
        path: its file.
        inputs: names of its inputs.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.path = path
        self.runtime = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each.name for each in self.runtime.get_inputs()]

    def __call__(self, batch: Batch) -> Output:
        """Return the output of a batch: ``logits[texts(, length), …]`` or hidden states."""
        # A tokenizer that pads ids alone leaves the token types out, which are 0 then.
        zeros = np.zeros_like(batch["input_ids"])
        feed = {name: batch.get(name, zeros).astype(np.int64) for name in self.inputs}
        output: Output = self.runtime.run(None, feed)[0]
        return output


def export(options: OnnxOptions) -> None:
    """Export a model for ONNX Runtime, in int8 where that costs no more than the margin."""
    with atomic_dir(options.output) as partial:
        report = write_onnx(options, partial)
        load_fast_tokenizer(options.model).save_pretrained(partial)
        load_config(options.model).save_pretrained(partial)
        copy_sentence_files(options.model, partial)
        write_json(partial / "provenance.json", provenance(report, {"model": options.model}))
    logger.info("%s: %s", options.output, report["decision"])


def write_onnx(options: OnnxOptions, folder: Path) -> dict[str, Any]:
    """Write the ONNX model and its report into ``folder/onnx``; return the report.

    Raises:
        InputError: the model has not the head that is asked for, its labels are not the task's,
            there is no text, or ONNX Runtime is not installed.
        Failure: the exported model gives another output than the model itself.
    """
    quiet()
    if any(find_spec(name) is None for name in ("onnx", "onnxruntime")):
        raise InputError("onnx, onnxruntime: not installed; run `pip install 'eliquare[export]'`")
    if options.text is None and options.task is None:
        raise InputError("--text: give text of the language to calibrate and compare on")
    model, head = load_exported(options.model, options.head)
    tokenizer = load_fast_tokenizer(options.model)
    splits = data.load(options.task) if options.task else None
    if splits and [*(model.config.id2label or {}).values()] != splits.labels:
        raise InputError(
            f"{options.model}: was not fine-tuned on this task, whose labels are "
            f"{', '.join(splits.labels)}"
        )
    texts = list(
        islice(sample_texts(options.text, TEXTS), TEXTS)
        if options.text
        else (" ".join(each.texts) for each in islice(splits.train, TEXTS))
        if splits
        else ()
    )
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError(f"{options.text or '--task'}: no text; give some sentences")
    length = min(MAX_LENGTH, max_sequence_length(model))
    place = folder / FOLDER
    place.mkdir()
    # Without a task, int8 is judged on other text than it is calibrated on.
    calibrated, judged = (texts, []) if options.task else (texts[::2], texts[1::2] or texts)
    batches = list(batches_of(tokenizer, calibrated, length))
    names = [name for name in batches[0] if name in inspect.signature(model.forward).parameters]
    write_graph(model, head, names, batches[0], place / FLOAT)
    session = Session(place / FLOAT, options.threads)
    difference = compare(model, session, batches[0], names)
    if options.task and splits:
        # On inputs as long as it was fine-tuned on.
        judge = judge_of_task(options.task, splits, tokenizer, max_sequence_length(model))
    elif head == "fill-mask":
        judge = judge_of_words(tokenizer, judged, length)
    else:
        others = list(batches_of(tokenizer, judged, length))
        judge = (
            judge_of_states(session, others, read_sentence(options.model))
            if head == "feature-extraction"
            else judge_of_answers(session, others)
        )
    timed = timed_batch(options, model)
    report: dict[str, Any] = {
        "head": head,
        "metric": judge.metric,
        "split": judge.split,
        "margin": options.margin,
        "calibration_texts": len(calibrated),
        "float32": measured(session, judge, timed, options.repeats)
        | {"largest_difference": difference},
        "int8": {},
        "kept": "float32",
        "file": f"{FOLDER}/{FLOAT}",
    }
    tried = quantized(session, place, batches) if options.int8 else iter(())
    for method, path in tried:
        found = measured(Session(path, options.threads), judge, timed, options.repeats)
        loss = report["float32"]["scores"]["validation"] - found["scores"]["validation"]
        report["int8"][method] = found | {"loss": loss, "passed": loss <= options.margin}
        if loss <= options.margin:
            report |= {"kept": f"int8 ({method})", "file": f"{FOLDER}/{INT8}"}
            path.rename(place / INT8)
            session.path.unlink()
            break
        path.unlink()
    report["torch_latency_ms"] = latency_of_torch(model, timed, options)
    report["decision"] = decision(report)
    write_json(place / REPORT, report)
    return report


def decision(report: Mapping[str, Any]) -> str:
    """Return which form was kept and why, in one line."""
    metric, margin = report["metric"], report["margin"]
    full = report["float32"]["scores"]["validation"]
    if not report["int8"]:
        return f"float32 kept ({metric} {full:.4f}); int8 was not asked for"
    tried = ", ".join(
        f"{found['scores']['validation']:.4f} in int8 ({method})"
        for method, found in report["int8"].items()
    )
    scores = f"{metric} on {report['split']} {full:.4f} in float32, {tried}"
    if report["kept"] == "float32":
        return f"float32 kept, since int8 costs more than the margin of {margin:g}: {scores}"
    return f"{report['kept']} kept, within the margin of {margin:g}: {scores}"


# The model and its graph


def load_exported(folder: Path, wanted: Head | None = None) -> tuple[PreTrainedModel, Head]:
    """Load a model in float32 with its head.

    Raises:
        InputError: the head that is wanted is not stored, or the model is of another kind.
    """
    names = load_config(folder).architectures or [""]
    stored = next((head for head, (_, end) in HEADS.items() if names[0].endswith(end)), None)
    head = wanted or stored
    if head is None:
        raise InputError(f"{folder}: {names[0] or 'its head'} is not exported; expected {listed()}")
    if head not in (stored, "feature-extraction"):
        raise InputError(
            f"{folder}: has no head for {head}; its head is for {stored or 'nothing known here'}"
        )
    model, missing = load_weights(HEADS[head][0], folder, dtype=torch.float32)
    if missing:
        raise InputError(f"{folder}: the weights of its head lack {', '.join(missing[:3])}")
    model.eval()
    return model, head


def listed() -> str:
    """Return the heads that are known."""
    return ", ".join(HEADS)


class InOrder(nn.Module):
    """A model that takes its inputs in an order, as a graph does, and gives its first output."""

    def __init__(self, model: PreTrainedModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return logits, or the last hidden states."""
        output: torch.Tensor = self.model(**dict(zip(self.names, inputs, strict=True)))[0]
        return output


def write_graph(
    model: PreTrainedModel, head: Head, names: Sequence[str], batch: Batch, path: Path
) -> None:
    """Write a model as a graph for any number of texts of any length."""
    output = "last_hidden_state" if head == "feature-extraction" else "logits"
    axes = {name: {0: "batch", 1: "length"} for name in (*names, output)}
    if head == "text-classification":
        del axes[output][1]
    attention = model.config._attn_implementation
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # Attention written out takes ONNX Runtime fewer steps than torch's own function.
        model.set_attn_implementation("eager")
        torch.onnx.export(
            InOrder(model, names).eval(),
            tuple(torch.from_numpy(batch[name]) for name in names),
            str(path),
            input_names=list(names),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    model.set_attn_implementation(attention)


def compare(model: PreTrainedModel, session: Session, batch: Batch, names: Sequence[str]) -> float:
    """Return the largest difference of a graph's output, relative to the largest number.

    On shapes that it was not traced with too. Raises Failure where it is more than TOLERANCE.
    """
    largest = 0.0
    for rows in (slice(None), slice(1), slice(COMPARED_TEXTS)):
        part = {name: batch[name][rows] for name in names}
        real = part["attention_mask"].astype(bool)
        longest = int(real.sum(1).max())
        part = {name: values[:, :longest] for name, values in part.items()}
        with torch.inference_mode():
            own = model(**{name: torch.from_numpy(v) for name, v in part.items()})[0].numpy()
        exported = session(part)
        if own.ndim == 3:
            # What a model gives at padding means nothing.
            own, exported = own[real[:, :longest]], exported[real[:, :longest]]
        difference = float(np.abs(own - exported).max() / max(1.0, float(np.abs(own).max())))
        if not difference <= TOLERANCE:
            raise Failure(
                f"{model.config.name_or_path}: the exported model differs from the model itself by "
                f"{difference:.1g} of its largest output; nothing is written"
            )
        largest = max(largest, difference)
    return largest


def quantized(
    session: Session, folder: Path, batches: Sequence[Batch]
) -> Iterator[tuple[str, Path]]:
    """Yield int8 forms of a model: calibrated on text, then with ranges found as it runs.

    Weights of embeddings and linear layers are int8 with a scale per output; products of two
    activations stay in float32. Weights have 7 of the 8 bits: with 8, processors without VNNI
    (before 2019) add up beyond 16 bits, so that a score measured on one machine would not hold on
    another.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    common = {
        "op_types_to_quantize": ["MatMul", "Gemm", "Gather"],
        "per_channel": True,
        "reduce_range": True,
        "weight_type": QuantType.QInt8,
        "extra_options": {"MatMulConstBOnly": True},
    }
    path = folder / "static.onnx"
    with no_advice():
        reader = Feeds(session.inputs, batches)
        # In the other format, products of two activations become int8 too.
        form = {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8}
        quantize_static(session.path, path, reader, **form, **common)
    yield "calibrated", path
    path = folder / "dynamic.onnx"
    with no_advice():
        quantize_dynamic(session.path, path, **common)
    yield "dynamic", path


@contextlib.contextmanager
def no_advice() -> Iterator[None]:
    """Silence onnxruntime's advice to do what it does itself when it loads a model."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


class Feeds:
    """Batches as onnxruntime reads them to calibrate."""

    def __init__(self, names: Sequence[str], batches: Sequence[Batch]) -> None:
        self.feeds = iter([{name: batch[name] for name in names} for batch in batches])

    def get_next(self) -> Batch | None:
        """Return the next batch, None after the last one."""
        return next(self.feeds, None)


# Scores


def batches_of(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int
) -> Iterator[Batch]:
    """Yield texts as padded inputs ``[texts, length]`` of a model, token types included."""
    for start in range(0, len(texts), TEXTS_PER_BATCH):
        part = list(texts[start : start + TEXTS_PER_BATCH])
        yield dict(
            tokenizer(part, truncation=True, max_length=length, padding=True, return_tensors="np")
        )


def judge_of_task(
    task: Task, splits: data.Splits, tokenizer: PreTrainedTokenizerFast, length: int
) -> Judge:
    """Return the judge by the main metric of a task."""
    metric = data.MAIN_METRIC[task.kind]
    length = min(task.finetuning.longest_input(task.kind), length)
    encoded = {
        name: encode(tokenizer, task.kind, getattr(splits, name), splits.labels, length)
        for name in ("validation", "test")
    }

    def scores(session: Session) -> dict[str, float]:
        found = {}
        for name, split in encoded.items():
            answers: list[Any] = []
            features = [{k: v for k, v in each.items() if k != "labels"} for each in split.features]
            for start in range(0, len(features), TEXTS_PER_BATCH):
                part = features[start : start + TEXTS_PER_BATCH]
                answers += session(tokenizer.pad(part, return_tensors="np")).argmax(-1).tolist()
            found[name] = score(task.kind, split.gold, split.decode(answers))[metric]
        return found

    return Judge(metric, f"the validation split of {task.name}", scores)


def judge_of_words(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> Judge:
    """Return the judge by how often a masked token is the model's best answer.

    Where a model is right seldom, as one that has hardly been trained, this decides little.
    """
    masked: list[tuple[Batch, NDArray[np.bool_], NDArray[np.int64]]] = []
    special = np.array(tokenizer.all_special_ids)
    for batch in batches_of(tokenizer, texts, length):
        ids = batch["input_ids"]
        places = ~np.isin(ids, special)
        order = places.cumsum(1)
        places &= order % MASK_EVERY == MASK_EVERY // 2
        given = dict(batch) | {"input_ids": np.where(places, tokenizer.mask_token_id, ids)}
        masked.append((given, places, ids[places]))
    if not any(len(gold) for _, _, gold in masked):
        raise InputError("--text: too short to mask a token of it; give some sentences")

    def scores(session: Session) -> dict[str, float]:
        right = [session(batch)[places].argmax(-1) == gold for batch, places, gold in masked]
        return {"validation": float(np.concatenate(right).mean())}

    return Judge("accuracy of masked tokens", f"{len(texts)} texts", scores)


def judge_of_answers(session: Session, batches: Sequence[Batch]) -> Judge:
    """Return the judge of a classifier without a task: how often it answers as in float32."""

    def answers(of: Session) -> Iterator[NDArray[np.int64]]:
        for batch in batches:
            best = of(batch).argmax(-1)
            yield best[batch["attention_mask"].astype(bool)] if best.ndim == 2 else best

    own = np.concatenate(list(answers(session)))

    def scores(other: Session) -> dict[str, float]:
        return {"validation": float((own == np.concatenate(list(answers(other)))).mean())}

    return Judge("answers as in float32", described(batches), scores)


def described(batches: Sequence[Batch]) -> str:
    """Return how many texts there are."""
    return f"{sum(len(batch['input_ids']) for batch in batches)} texts"


def judge_of_states(session: Session, batches: Sequence[Batch], sentence: Sentence | None) -> Judge:
    """Return the judge by the mean cosine of a text's embedding and that of the float32 model."""
    how = (sentence or Sentence("mean")).pool

    def embeddings(of: Session) -> torch.Tensor:
        found = [
            how(torch.from_numpy(of(batch)), torch.from_numpy(batch["attention_mask"]))
            for batch in batches
        ]
        return nn.functional.normalize(torch.cat(found), dim=-1)

    own = embeddings(session)

    def scores(other: Session) -> dict[str, float]:
        return {"validation": float((own * embeddings(other)).sum(-1).mean())}

    return Judge("cosine with the float32 embeddings", described(batches), scores)


def measured(session: Session, judge: Judge, batch: Batch, repeats: int) -> dict[str, Any]:
    """Return the scores, size and latency of a model."""
    return {
        "scores": judge.scores(session),
        "bytes": session.path.stat().st_size,
        "latency_ms": benchmark.latency(lambda: session(batch), repeats, torch.device("cpu")),
    }


def timed_batch(how: Benchmark, model: PreTrainedModel) -> Batch:
    """Return the smallest batch of a benchmark, as ``evaluation benchmark`` draws it."""
    shape = (min(how.batch_sizes), min(how.sequence_length, max_sequence_length(model)))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, shape, generator=generator).numpy()
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def latency_of_torch(model: PreTrainedModel, batch: Batch, how: Benchmark) -> dict[str, float]:
    """Return the latency of the model itself in torch, measured in the same way."""
    given = {name: torch.from_numpy(values) for name, values in batch.items()}
    with benchmark.on_threads(how.threads), torch.inference_mode():
        return benchmark.latency(lambda: model(**given), how.repeats, torch.device("cpu"))
