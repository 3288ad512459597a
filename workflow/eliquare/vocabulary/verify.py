"""Verify that a model with a smaller vocabulary is otherwise the same, or report where it is not.

    eliquare vocabulary verify --model OLD --reduced NEW --sample TEXT --output verification.json

Ids, rows and merges are compared for the full vocabulary; segmentation, hidden states and MLM
logits on sentences of a corpus, and of each task, whose old segmentation uses tokens that are still
there. It also judges models that other tools have reduced.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import AfterValidator, Field
from transformers import PreTrainedTokenizerFast

from eliquare.cli import Options
from eliquare.corpus.documents import sample_texts
from eliquare.corpus.tokenization import split_sentences
from eliquare.io import InputError, atomic_write, write_json
from eliquare.models.hub import local_folder
from eliquare.models.loading import (
    has_mlm_head,
    load_config,
    load_fast_tokenizer,
    load_model,
    quiet,
    vocabulary_tensors,
)
from eliquare.vocabulary import tokenizer as tokenizer_json

CORPUS = "corpus"
DOCUMENTS = 2000
TASK_TEXTS = 5000
# Segmentation is compared on this many sentences of a text; running models on them takes longer.
SENTENCES = 200
UNKNOWN_LANGUAGE = "und"

MAX_LENGTH = 128
MASK_EVERY = 7
SENTENCES_PER_BATCH = 4
POSITIONS_PER_SENTENCE = 8
# Hidden states are equal bit for bit. The product with the output weights may round otherwise when
# the number of columns changes; single precision leaves differences of about 1e-6 of the largest.
LOGIT_TOLERANCE = 1e-5

logger = logging.getLogger(__name__)


def named_file(value: str) -> str:
    """Return an option as it is; raise ValueError if it is not NAME=FILE."""
    name, _, file = value.partition("=")
    if not (name and file):
        raise ValueError(f"expected NAME=FILE, found {value!r}")
    return value


TaskFiles = list[Annotated[str, AfterValidator(named_file)]]


class VerifyOptions(Options):
    """Options of ``vocabulary verify``."""

    model: str = Field(description="Folder of the full model, or a hub id.")
    reduced: Path = Field(description="Folder of the model with fewer tokens.")
    sample: Path = Field(
        description="Documents folder, or a text file with one text per line, to compare on."
    )
    tasks: TaskFiles = Field([], description="Task files to compare on too, as NAME=FILE.")
    sentences: int = Field(
        SENTENCES, ge=1, description="Sentences of each text to run both models on."
    )
    output: Path | None = Field(None, description="Findings to write (JSON).")


class Pair(NamedTuple):
    """Two tokenizers with nested vocabularies, and the old id of each new one."""

    old: PreTrainedTokenizerFast
    new: PreTrainedTokenizerFast
    old_ids: list[int]
    old_description: tokenizer_json.Description
    new_description: tokenizer_json.Description


class Sentence(NamedTuple):
    """A sentence with its ids in both numberings, some of them masked."""

    text: str
    old_ids: list[int]
    new_ids: list[int]


class Sample(NamedTuple):
    """Sentences of a text to run both models on, and counts.

    ``read``: sentences looked at; ``same``: segmented identically; ``newly_unknown``: with an
    [UNK] of the new tokenizer alone.
    """

    sentences: list[Sentence]
    read: int
    same: int
    newly_unknown: int


class Result(NamedTuple):
    """Outputs of a model for one sentence: ``hidden[tokens, width]`` and ``logits``.

    ``logits[positions, kept]`` are those of some positions, of kept tokens; None without a head.
    """

    hidden: torch.Tensor
    logits: torch.Tensor | None


class Run(NamedTuple):
    """A model run on sentences: whether it has an MLM head, and a result per sentence.

    ``rows`` are the tensors with a row per token, ``[kept, …]`` of the kept tokens, by name.
    """

    head: bool
    rows: dict[str, torch.Tensor]
    results: list[Result]


def verify(options: VerifyOptions) -> None:
    """Compare the models and write the findings; a difference is an InputError."""
    findings = compare(
        local_folder(options.model),
        options.reduced,
        options.sample,
        files_by_name(options.tasks),
        options.sentences,
    )
    if options.output:
        with atomic_write(options.output) as partial:
            write_json(partial, findings)
    logger.info("%s: %s", options.reduced, describe_findings(findings))


def files_by_name(values: Iterable[str]) -> dict[str, Path]:
    """Return the files of NAME=FILE options by name."""
    return {name: Path(file) for name, _, file in (value.partition("=") for value in values)}


def compare(
    folder: Path,
    reduced: Path,
    sample: Path,
    tasks: Mapping[str, Path] | None = None,
    sentences: int = SENTENCES,
) -> dict[str, Any]:
    """Compare a model with its reduced form and return the findings.

    Args:
        folder: the full model.
        reduced: the model with fewer tokens.
        sample: documents folder or text file.
        tasks: task files by name.
        sentences: how many of each text both models are run on, in float32, one after the other.

    Raises:
        InputError: the models differ; the message says where.
    """
    quiet()
    pair = match_vocabularies(folder, reduced)
    check_merges(reduced, pair)
    check_special_ids(folder, reduced, pair)
    samples = {
        name: take_sample(pair, reduced, name, texts, sentences)
        for name, texts in texts_by_name(sample, tasks or {}).items()
    }
    chosen = [sentence for of_text in samples.values() for sentence in of_text.sentences]
    # Sentences of similar length share a batch.
    chosen.sort(key=lambda sentence: len(sentence.old_ids))
    old_ids, new_ids = pair.old_ids, list(range(len(pair.old_ids)))
    padding, new_padding = pair.old.pad_token_id, pair.new.pad_token_id
    # The models need the memory.
    del pair
    before = run_model(folder, [s.old_ids for s in chosen], old_ids, padding)
    after = run_model(
        reduced, [s.new_ids for s in chosen], new_ids, new_padding, encoder_only=not before.head
    )
    check_rows(folder, reduced, before, after)
    difference = compare_results(reduced, chosen, before.results, after.results)
    return {
        "tokens": len(old_ids),
        "rows": "same",
        "mlm_head": before.head,
        "texts": {
            name: {
                "sentences_read": of_text.read,
                "sentences_segmented_identically": of_text.same,
                "sentences_compared": len(of_text.sentences),
                "sentences_newly_unknown": of_text.newly_unknown,
            }
            for name, of_text in samples.items()
        },
        "segmentation": "same",
        "hidden_states": "equal bit for bit",
        "largest_relative_logit_difference": difference,
        "logit_tolerance": LOGIT_TOLERANCE,
    }


def describe_findings(findings: Mapping[str, Any]) -> str:
    """Return the findings in one line."""
    texts = findings["texts"].values()
    same, run = (
        sum(text[f"sentences_{key}"] for text in texts)
        for key in ("segmented_identically", "compared")
    )
    difference = findings["largest_relative_logit_difference"]
    logits = "no MLM head to compare"
    if difference is not None:
        logits = f"largest relative difference of a logit: {difference:.1e}"
    return f"segments {same:,} sentences identically, is the same model on {run:,} ({logits})"


# The full vocabulary


def match_vocabularies(folder: Path, reduced: Path) -> Pair:
    """Return both tokenizers; raise InputError for new tokens that the old one lacks."""
    old, new = load_fast_tokenizer(folder), load_fast_tokenizer(reduced)
    old_vocabulary = old.get_vocab()
    old_ids = []
    description = tokenizer_json.describe(new)
    for token in tokenizer_json.list_tokens(description):
        if token not in old_vocabulary:
            raise InputError(f"{reduced}: token {token!r} is not one of the old model's")
        old_ids.append(old_vocabulary[token])
    return Pair(old, new, old_ids, tokenizer_json.describe(old), description)


def check_merges(reduced: Path, pair: Pair) -> None:
    """Raise InputError where a BPE word of kept tokens may be segmented otherwise than before.

    Together these three suffice: the alphabet is there, the new merges are old ones in the old
    order, and the merges by which kept tokens come about are all there.
    """
    if tokenizer_json.kind_of(pair.old_description) != "BPE":
        return
    tokens = tokenizer_json.list_tokens(pair.old_description)
    kept = set(pair.new.get_vocab())
    alphabet = tokenizer_json.alphabet_ids(pair.old_description)
    lost = sorted(index for index in alphabet if tokens[index] not in kept)
    if lost:
        spells_bytes = tokenizer_json.spells_bytes(pair.old_description)
        raise InputError(
            f"{reduced}: the {'byte' if spells_bytes else 'character'} {tokens[lost[0]]!r} was not "
            f"kept ({len(lost)} such); text with it is lost or becomes unknown"
        )
    old, new = (
        tokenizer_json.Merges(description["model"])
        for description in (pair.old_description, pair.new_description)
    )
    last_rank, last_merge = -1, ("", "")
    for merge in sorted(new.ranks, key=lambda pair: new.ranks[pair]):
        rank = old.ranks.get(merge)
        if rank is None:
            raise InputError(f"{reduced}: the merge {' + '.join(merge)} is not one of the old ones")
        if rank < last_rank:
            raise InputError(
                f"{reduced}: the merge {' + '.join(merge)} comes after {' + '.join(last_merge)}, "
                "and before it in the old tokenizer; keep the merges in their old order"
            )
        last_rank, last_merge = rank, merge
    for token in tokenizer_json.merged_tokens(pair.old_description).values():
        for merge in old.taken(token) if token in kept else ():
            if merge not in new.ranks:
                gone = [part for part in (*merge, old.made_by(merge)) if part not in kept]
                why = f": {gone[0]!r} was not kept" if gone else ""
                raise InputError(
                    f"{reduced}: token {token!r} came about by the merge {' + '.join(merge)}, "
                    f"which is gone{why}; keep every token on the way to it"
                )


def check_special_ids(folder: Path, reduced: Path, pair: Pair) -> None:
    """Raise InputError for a special id that has its old number or names another token."""
    old_config, new_config = load_config(folder), load_config(reduced)
    new_vocabulary = pair.new.get_vocab()
    for key, old_value in old_config.to_dict().items():
        if not key.endswith("_token_id"):
            continue
        both = (old_value, getattr(new_config, key, None))
        old_ids, new_ids = (value if isinstance(value, list) else [value] for value in both)
        for place, index in enumerate(old_ids):
            if index is None or not 0 <= index < len(pair.old):
                continue
            token = str(pair.old.convert_ids_to_tokens(index))
            new_id = new_ids[place] if place < len(new_ids) else None
            if new_id != new_vocabulary.get(token):
                raise InputError(
                    f"{reduced}/config.json: {key} is {new_id}, but {token!r} is number "
                    f"{new_vocabulary.get(token)} of the new vocabulary"
                )
    new_roles = pair.new.special_tokens_map
    for role, special in pair.old.special_tokens_map.items():
        if new_roles.get(role) != special:
            raise InputError(f"{reduced}: {role} is {new_roles.get(role)!r}, not {special!r}")
    # Tokenizer classes correct some of these when they load; other programs read the file as it is.
    for part, token, index in tokenizer_json.references(tokenizer_json.read_description(reduced)):
        if index != new_vocabulary.get(token):
            raise InputError(
                f"{reduced}/tokenizer.json: {part} gives {token!r} the number {index}, "
                f"but it is number {new_vocabulary.get(token)} of the new vocabulary"
            )


# Sentences


def texts_by_name(sample: Path, tasks: Mapping[str, Path]) -> dict[str, Iterator[str]]:
    """Return the texts of the corpus and of each task."""
    from eliquare.evaluation.readers import read_texts

    texts = {CORPUS: sample_texts(sample, DOCUMENTS)}
    return texts | {name: islice(read_texts(file), TASK_TEXTS) for name, file in tasks.items()}


def take_sample(pair: Pair, reduced: Path, name: str, texts: Iterable[str], wanted: int) -> Sample:
    """Compare the segmentation of sentences that the old tokenizer segments into kept tokens.

    A WordPiece or BPE word that was [UNK] may be segmented now that a token which led astray is
    gone, so sentences with one are left out. A task may have characters that the corpus lacks: that
    is only reported.

    Args:
        pair: both tokenizers.
        reduced: the new model, for messages.
        name: CORPUS, or the name of a task.
        texts: its texts.
        wanted: sentences to return at most, spread over those that can be compared.

    Raises:
        InputError: such a sentence is segmented in another way; or, for the corpus, a character
            that the old vocabulary has is gone and its words became [UNK], or no sentence can be
            compared.
    """
    new_ids = {old: new for new, old in enumerate(pair.old_ids)}
    max_length = min(MAX_LENGTH, pair.old.model_max_length)
    unigram = tokenizer_json.kind_of(pair.old_description) == "Unigram"
    unknown, new_unknown = pair.old.unk_token_id, pair.new.unk_token_id
    sentences: list[Sentence] = []
    read = newly_unknown = 0
    for text in chain.from_iterable(split_sentences(text, UNKNOWN_LANGUAGE) for text in texts):
        sentence = text.strip()
        read += 1
        old, new = (
            tokenizer(sentence, truncation=True, max_length=max_length)["input_ids"]
            for tokenizer in (pair.old, pair.new)
        )
        if new_unknown is not None and unknown not in old and new_unknown in new:
            newly_unknown += 1
            if name == CORPUS:
                require_characters(pair, reduced, sentence)
        if any(index not in new_ids for index in old) or (not unigram and unknown in old):
            continue
        if new != [new_ids[index] for index in old]:
            old_tokens, new_tokens = (
                " ".join(tokenizer.convert_ids_to_tokens(ids[:12]))
                for tokenizer, ids in ((pair.old, old), (pair.new, new))
            )
            raise InputError(
                f"{reduced}: segments {sentence[:60]!r} into {new_tokens}, "
                f"the old tokenizer into {old_tokens}"
            )
        sentences.append(masked(pair, sentence, old, new))
        if len(sentences) == max(wanted, SENTENCES):
            break
    if not sentences:
        message = (
            f"{name}: none of {read:,} sentences is segmented into kept tokens only, so nothing "
            "can be verified on it"
        )
        if name == CORPUS:
            raise InputError(f"{message}; keep more tokens, or give text of the right language")
        logger.warning("%s", message)
    if newly_unknown:
        logger.warning(
            "%s: %d of %d sentences have an %s that they have not with the full vocabulary",
            name,
            newly_unknown,
            read,
            pair.new.unk_token,
        )
    number = min(wanted, len(sentences))
    spread = [sentences[place * len(sentences) // number] for place in range(number)]
    return Sample(spread, read, len(sentences), newly_unknown)


def masked(pair: Pair, text: str, old: Sequence[int], new: Sequence[int]) -> Sentence:
    """Return the sentence with the mask token in place of every seventh token."""
    specials = set(pair.old.all_special_ids)
    old_ids, new_ids = list(old), list(new)
    if pair.old.mask_token_id is not None:
        places = [place for place, index in enumerate(old) if index not in specials]
        for place in places[3::MASK_EVERY]:
            old_ids[place], new_ids[place] = pair.old.mask_token_id, pair.new.mask_token_id
    return Sentence(text, old_ids, new_ids)


def require_characters(pair: Pair, reduced: Path, text: str) -> None:
    """Raise InputError where a new [UNK] comes from a character that could have been kept."""
    old, new = tokenizer_json.model_vocabulary(pair.old_description), pair.new.get_vocab()
    backend = pair.old.backend_tokenizer
    normalized = backend.normalizer.normalize_str(text) if backend.normalizer else text
    words = [(normalized, None)]
    if backend.pre_tokenizer:
        words = backend.pre_tokenizer.pre_tokenize_str(normalized)
    for word, _ in words:
        bare = word.removeprefix(tokenizer_json.WORD_START)
        if pair.new.unk_token not in pair.new.tokenize(bare):
            continue
        for form in tokenizer_json.spell(pair.old_description, word):
            if form in old and form not in new:
                raise InputError(
                    f"{reduced}: the character {form!r} was not kept, so that the word {word!r} "
                    "became unknown; keep every character of the corpus in each of its forms"
                )


# Rows and outputs


@torch.inference_mode()
def run_model(
    folder: Path,
    sentences: Sequence[Sequence[int]],
    kept: Sequence[int],
    padding: int | None,
    encoder_only: bool = False,
) -> Run:
    """Run a model in float32 on sentences.

    Sentences share a batch where there is a padding token, so two models run on the same shapes.

    Args:
        folder: the model.
        sentences: ids of each sentence.
        kept: ids of the kept tokens.
        padding: id of the padding token.
        encoder_only: leave an MLM head out.
    """
    model: Any = load_model(folder, torch.float32)
    if model.config.vocab_size <= max(kept):
        raise InputError(
            f"{folder}: {max(kept) + 1:,} tokens in the tokenizer, {model.config.vocab_size:,} "
            "rows in the model"
        )
    model = model.base_model if encoder_only else model
    columns = torch.tensor(kept)
    rows = {name: tensor[columns] for name, tensor in vocabulary_tensors(model).items()}
    # A hook, since a model that returns its hidden states keeps those of every layer.
    hidden: list[torch.Tensor] = []
    model.base_model.register_forward_hook(lambda *call: hidden.append(call[2][0]))
    positions = torch.empty(0, dtype=torch.int64)
    head = has_mlm_head(model)
    if head and (projection := model.get_output_embeddings()) is not None:
        # Logits of all positions would take more memory than the model.
        projection.register_forward_pre_hook(
            lambda _, inputs: (at(inputs[0], positions), *inputs[1:])
        )
    results = []
    size = 1 if padding is None else SENTENCES_PER_BATCH
    for start in range(0, len(sentences), size):
        batch = sentences[start : start + size]
        longest = max(map(len, batch))
        ids = torch.tensor([[*s, *[padding or 0] * (longest - len(s))] for s in batch])
        mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in batch])
        positions = torch.stack(
            [torch.linspace(0, len(s) - 1, POSITIONS_PER_SENTENCE).long() for s in batch]
        )
        output = model(input_ids=ids, attention_mask=mask)
        states = hidden.pop()
        logits = None
        if head:
            narrowed = output.logits.shape[1] == positions.shape[1]
            logits = (output.logits if narrowed else at(output.logits, positions))[..., columns]
        for place, sentence in enumerate(batch):
            of_sentence = None if logits is None else logits[place]
            results.append(Result(states[place, : len(sentence)].clone(), of_sentence))
    return Run(head, rows, results)


def at(values: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return ``values[batch, tokens, width]`` at ``positions[batch, n]``: ``[batch, n, width]``."""
    return values[torch.arange(len(positions))[:, None], positions]


def check_rows(folder: Path, reduced: Path, before: Run, after: Run) -> None:
    """Raise InputError that names the first token whose row is not its old one."""
    if before.head and not after.head:
        raise InputError(f"{reduced}: the old model has an MLM head, and this one has none")
    for name, old in before.rows.items():
        if name not in after.rows:
            raise InputError(f"{reduced}: tensor {name} of the old model is missing")
        new = after.rows[name]
        wrong = (new != old).reshape(len(old), -1).any(dim=1).nonzero()
        if len(wrong):
            first = int(wrong[0])
            all_old = vocabulary_tensors(load_model(folder, torch.float32))[name]
            same = (all_old == new[first]).reshape(len(all_old), -1).all(dim=1).nonzero()
            whose = "of no token of the old model"
            if len(same):
                old_tokenizer = load_fast_tokenizer(folder)
                whose = f"that of {old_tokenizer.convert_ids_to_tokens(int(same[0]))!r}"
            part = "embedding" if "embed" in name else "output weight"
            raise InputError(
                f"{reduced}: {'output bias' if name.endswith('bias') else part} ({name}) of token "
                f"{load_fast_tokenizer(reduced).convert_ids_to_tokens(first)!r} is {whose} "
                f"({len(wrong):,} of {len(old):,} rows are wrong)"
            )


def compare_results(
    reduced: Path,
    sentences: Sequence[Sentence],
    before: Sequence[Result],
    after: Sequence[Result],
) -> float | None:
    """Return the largest relative difference of a logit, None without MLM heads.

    Raises:
        InputError: hidden states are not equal bit for bit, or a logit differs by more than
            LOGIT_TOLERANCE.
    """
    largest: float | None = None
    for sentence, old, new in zip(sentences, before, after, strict=True):
        text = sentence.text[:60]
        if not torch.equal(old.hidden, new.hidden):
            raise InputError(f"{reduced}: other hidden states than the old model for {text!r}")
        if old.logits is None or new.logits is None:
            continue
        difference = float((old.logits - new.logits).abs().max())
        largest = max(largest or 0.0, difference / max(1.0, float(old.logits.abs().max())))
        # Written so that a logit that is not a number counts as different.
        if not largest <= LOGIT_TOLERANCE:
            raise InputError(
                f"{reduced}: MLM logits differ from the old ones by {difference:.2g} for {text!r}"
            )
    return largest
