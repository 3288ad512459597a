"""Verify that a model with a smaller vocabulary is otherwise the same, or report where it is not.

    eliquare vocabulary verify --model OLD --reduced NEW --sample TEXT --output verification.json

Ids, rows and merges are compared for the full vocabulary; segmentation, hidden states and MLM
logits on sentences of a corpus, and of each task, whose old segmentation uses tokens that are still
there. It also judges models that other tools have reduced.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from eliquare.cli import Options
from eliquare.corpus.documents import sample_texts
from eliquare.corpus.tokenization import split_sentences
from eliquare.io import InputError, atomic_write, why_unavailable, write_json
from eliquare.models.hub import local_folder
from eliquare.models.loading import (
    has_mlm_head,
    load_config,
    load_fast_tokenizer,
    load_model,
    map_weights,
    quiet,
    vocabulary_tensors,
)
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.heads import check_addressing, check_prompts, compare_heads

CORPUS = "corpus"
DOCUMENTS = 2000
TASK_TEXTS = 5000
# Segmentation is compared on this many sentences of a text; running models on them takes longer.
SENTENCES = 200
MAX_LENGTH = 128
MASK_EVERY = 7
SENTENCES_PER_BATCH = 4
# A head that reads hidden states, which are equal, is run on so many.
HEAD_TEXTS = 16
POSITIONS_PER_SENTENCE = 8
# Hidden states are equal bit for bit. The product with the output weights may round otherwise when
# the number of columns changes; single precision leaves differences of about 1e-6 of the largest.
LOGIT_TOLERANCE = 1e-5

logger = logging.getLogger(__name__)


def named_file(value: Any) -> Any:
    """Return the name and the file of NAME=FILE; raise ValueError if it is not of that form."""
    name, _, file = str(value).partition("=")
    if not (name and file):
        raise ValueError(f"expected NAME=FILE, found {value!r}")
    return name, file


def available(files: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Return the files without those of tasks whose data could not be fetched."""
    return [(name, file) for name, file in files if not why_unavailable(file.parent)]


TaskFiles = Annotated[
    list[Annotated[tuple[str, Path], BeforeValidator(named_file)]], AfterValidator(available)
]


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


class Run(NamedTuple):
    """What a model has for the kept tokens, and makes of each sentence.

    ``rows[kept, …]`` of each tensor with a row per token, by name; last ``hidden[tokens, width]``;
    MLM ``logits[positions, kept]`` at some positions, None for a model without a head.
    """

    rows: dict[str, torch.Tensor]
    hidden: list[torch.Tensor]
    logits: list[torch.Tensor] | None


def verify(options: VerifyOptions) -> None:
    """Compare the models and write the findings; a difference is an InputError."""
    folder = local_folder(options.model)
    findings = compare(folder, options.reduced, options.sample, options.tasks, options.sentences)
    if options.output:
        with atomic_write(options.output) as partial:
            write_json(partial, findings)
    logger.info("%s: %s", options.reduced, describe_findings(findings))


def compare(
    folder: Path,
    reduced: Path,
    sample: Path,
    tasks: Iterable[tuple[str, Path]] = (),
    sentences: int = SENTENCES,
) -> dict[str, Any]:
    """Compare a model with its reduced form and return the findings.

    Both are run, in float32 and one after the other, on so many ``sentences`` of the sample (a
    documents folder or a text file) and of each task's file. Raises InputError that says where the
    models differ.
    """
    from eliquare.evaluation.readers import read_texts

    quiet()
    check_addressing(folder)
    pair = match_vocabularies(folder, reduced)
    check_prompts(folder, reduced, frozenset(pair.old_ids))
    check_merges(reduced, pair)
    check_special_ids(folder, reduced, pair)
    samples = {
        CORPUS: take_sample(pair, reduced, CORPUS, sample_texts(sample, DOCUMENTS), sentences)
    }
    for name, file in tasks:
        texts = islice(read_texts(file), TASK_TEXTS)
        samples[name] = take_sample(pair, reduced, name, texts, sentences)
    # Sentences of similar length share a batch.
    chosen = sorted(
        chain.from_iterable(of_text for of_text, _ in samples.values()),
        key=lambda sentence: len(sentence.old_ids),
    )
    old_ids, padding, new_padding = pair.old_ids, pair.old.pad_token_id, pair.new.pad_token_id
    # The models need the memory.
    del pair
    before = run_model(folder, [s.old_ids for s in chosen], old_ids, padding)
    head = before.logits is not None
    new_ids = range(len(old_ids))
    after = run_model(reduced, [s.new_ids for s in chosen], new_ids, new_padding, head)
    check_rows(reduced, before, after)
    difference = compare_results(reduced, chosen, before, after)
    heads = compare_heads(folder, reduced, [s.text for s in chosen[:HEAD_TEXTS]])
    return {
        "tokens": len(old_ids),
        "rows": "same",
        "mlm_head": head,
        "texts": {name: counts for name, (_, counts) in samples.items()},
        "segmentation": "same",
        "hidden_states": "equal bit for bit",
        "largest_relative_logit_difference": difference,
        "logit_tolerance": LOGIT_TOLERANCE,
        **({"other_head": heads} if heads else {}),
    }


def describe_findings(findings: Mapping[str, Any]) -> str:
    """Return the findings in one line."""
    texts = findings["texts"].values()
    same = sum(text["sentences_segmented_identically"] for text in texts)
    run = sum(text["sentences_compared"] for text in texts)
    difference = findings["largest_relative_logit_difference"]
    logits = "no MLM head to compare"
    if heads := findings.get("other_head"):
        logits = "; ".join(f"{name}: {value}" for name, value in heads.items())
    if difference is not None:
        logits = f"largest relative difference of a logit: {difference:.1e}"
    return f"segments {same:,} sentences identically, is the same model on {run:,} ({logits})"


# The full vocabulary


def match_vocabularies(folder: Path, reduced: Path) -> Pair:
    """Return both tokenizers; raise InputError for new tokens that the old one lacks."""
    old, new = load_fast_tokenizer(folder), load_fast_tokenizer(reduced)
    old_vocabulary, description = old.get_vocab(), tokenizer_json.describe(new)
    tokens = tokenizer_json.list_tokens(description, new.name_or_path)
    if foreign := [token for token in tokens if token not in old_vocabulary]:
        raise InputError(f"{reduced}: token {foreign[0]!r} is not one of the old model's")
    old_ids = [old_vocabulary[token] for token in tokens]
    return Pair(old, new, old_ids, tokenizer_json.describe(old), description)


def check_merges(reduced: Path, pair: Pair) -> None:
    """Raise InputError where a BPE word of kept tokens may be segmented otherwise than before.

    Together these three suffice: the alphabet is there, the new merges are old ones in the old
    order, and the merges by which kept tokens come about are all there.
    """
    description, kept = pair.old_description, set(pair.old_ids)
    if tokenizer_json.kind_of(description) != "BPE":
        return
    if lost := sorted(tokenizer_json.alphabet_ids(description) - kept):
        raise InputError(
            f"{reduced}: the {'byte' if tokenizer_json.spells_bytes(description) else 'character'} "
            f"{pair.old.convert_ids_to_tokens(lost[0])!r} was not kept ({len(lost)} such); text "
            "with it is lost or becomes unknown"
        )
    old, new = (
        tokenizer_json.Merges(each["model"]) for each in (description, pair.new_description)
    )
    merges = sorted(new.ranks, key=new.ranks.__getitem__)
    expected = sorted(old.ranks.keys() & merges, key=old.ranks.__getitem__)
    for merge, right in zip_longest(merges, expected):
        if merge != right:
            raise InputError(
                f"{reduced}: the merge {' + '.join(merge)} is not one of the old ones, or comes "
                "too early; keep the merges in their old order"
            )
    for index, token in tokenizer_json.merged_tokens(description).items():
        for merge in old.taken(token) if index in kept else ():
            if merge not in new.ranks:
                raise InputError(
                    f"{reduced}: token {token!r} came about by the merge {' + '.join(merge)}, "
                    "which is gone; keep every token on the way to it, and their merges"
                )


def check_special_ids(folder: Path, reduced: Path, pair: Pair) -> None:
    """Raise InputError for a special id that has its old number or names another token."""
    old_ids, new_ids = (
        tokenizer_json.configured_ids(load_config(each).to_dict()) for each in (folder, reduced)
    )
    named = [
        (f"config.json: {key}", str(pair.old.convert_ids_to_tokens(old)), new)
        for key, ids in old_ids.items()
        for old, new in zip_longest(ids, new_ids.get(key, []))
        if old in range(len(pair.old))
    ]
    # Tokenizer classes correct some of these when they load; other programs read the file as it is.
    written = tokenizer_json.references(tokenizer_json.read_description(reduced))
    named += [(f"tokenizer.json: {part}", name, holder[key]) for part, name, holder, key in written]
    vocabulary = pair.new.get_vocab()
    for place, token, number in named:
        if number != vocabulary.get(token):
            raise InputError(
                f"{reduced}/{place} is {number}, but {token!r} is number {vocabulary.get(token)} "
                "of the new vocabulary"
            )
    new_roles = pair.new.special_tokens_map
    for role, special in pair.old.special_tokens_map.items():
        if new_roles.get(role) != special:
            raise InputError(f"{reduced}: {role} is {new_roles.get(role)!r}, not {special!r}")


# Sentences


def take_sample(
    pair: Pair, reduced: Path, name: str, texts: Iterable[str], wanted: int
) -> tuple[list[Sentence], dict[str, int]]:
    """Compare the segmentation of sentences that the old tokenizer segments into kept tokens.

    A WordPiece or BPE word that was [UNK] may be segmented now that a token which led astray is
    gone, so sentences with one are left out. A task may have characters that the corpus lacks: that
    is only reported.

    Returns:
        ``wanted`` of these sentences at most, spread over them, with the mask in place of every
        seventh token; and counts for the findings.

    Raises:
        InputError: such a sentence is segmented in another way; or, where ``name`` is CORPUS, a
            character of the old vocabulary is gone and its words became [UNK], or no sentence can
            be compared.
    """
    new_ids = {old: new for new, old in enumerate(pair.old_ids)}
    max_length = min(MAX_LENGTH, pair.old.model_max_length)
    unigram = tokenizer_json.kind_of(pair.old_description) == "Unigram"
    unknown, new_unknown = pair.old.unk_token_id, pair.new.unk_token_id
    mask_ids, specials = (pair.old.mask_token_id, pair.new.mask_token_id), pair.old.all_special_ids
    sentences: list[Sentence] = []
    read = newly_unknown = 0
    # "und": of no language that is known.
    for text in chain.from_iterable(split_sentences(text, "und") for text in texts):
        sentence = text.strip()
        read += 1
        # Not truncated: a token that is gone changes those before it too.
        old, new = (each(sentence, verbose=False)["input_ids"] for each in (pair.old, pair.new))
        if unknown not in old and new_unknown in new:
            newly_unknown += 1
            if name == CORPUS:
                require_characters(pair, reduced, sentence)
        if any(index not in new_ids for index in old) or (not unigram and unknown in old):
            continue
        if new != [new_ids[index] for index in old]:
            both = [each.tokenize(sentence) for each in (pair.old, pair.new)]
            beside = enumerate(zip_longest(*both))
            # All, where only ids differ, or special tokens.
            first = next((place for place, (ours, theirs) in beside if ours != theirs), 0)
            old_tokens, new_tokens = (tokens[first:][:12] for tokens in both)
            raise InputError(
                f"{reduced}: segments {sentence[:60]!r} otherwise than the old tokenizer, from "
                f"token {first + 1} on into {new_tokens}, not {old_tokens}"
            )
        if len(old) > max_length:
            old, new = (
                each(sentence, truncation=True, max_length=max_length)["input_ids"]
                for each in (pair.old, pair.new)
            )
        if mask_ids[0] is not None:
            places = [place for place, index in enumerate(old) if index not in specials]
            for place in places[3::MASK_EVERY]:
                old[place], new[place] = mask_ids
        sentences.append(Sentence(sentence, old, new))
        if len(sentences) == max(wanted, SENTENCES):
            break
    if not read and name == CORPUS:
        raise InputError("--sample: no sentence in it; give some text of the language")
    if not sentences and name == CORPUS:
        raise InputError(
            f"{name}: none of {read:,} sentences is segmented into kept tokens only; keep more "
            "tokens, or give text of the right language"
        )
    if newly_unknown or not sentences:
        text = "%s: of %d sentences, %d can be compared, and %d have words that became unknown"
        logger.warning(text, name, read, len(sentences), newly_unknown)
    number = min(wanted, len(sentences))
    spread = [sentences[place * len(sentences) // number] for place in range(number)]
    return spread, {
        "sentences_read": read,
        "sentences_segmented_identically": len(sentences),
        "sentences_compared": number,
        "sentences_newly_unknown": newly_unknown,
    }


def require_characters(pair: Pair, reduced: Path, text: str) -> None:
    """Raise InputError where a text with a new [UNK] has a character that could have been kept."""
    old, new = pair.old.get_vocab(), pair.new.get_vocab()
    normalizer = pair.old.backend_tokenizer.normalizer
    for character in normalizer.normalize_str(text) if normalizer else text:
        for form in tokenizer_json.character_forms(pair.old_description, character):
            if form in old and form not in new:
                raise InputError(
                    f"{reduced}: the character {form!r} was not kept, which {text[:60]!r} has; "
                    "keep every character of the corpus in each of its forms"
                )


# Rows and outputs


@torch.inference_mode()
def run_model(
    folder: Path,
    sentences: Sequence[Sequence[int]],
    kept: Sequence[int],
    padding: int | None,
    with_head: bool = True,
) -> Run:
    """Run a model in float32 on sentences (ids), the weights of one layer in memory at a time.

    Sentences share a batch where there is a padding token, so two models run on the same shapes.
    ``kept`` are the ids of the kept tokens; ``with_head`` runs the MLM head too, if there is one.
    """
    weights = map_weights(folder)
    model: Any = load_model(folder, torch.float32, weights.tensors)
    tokenizer_json.require_rows(folder, max(kept) + 1, model.config.vocab_size)
    model = model if with_head else model.base_model
    columns = torch.tensor(kept)
    rows = {name: tensor[columns] for name, tensor in vocabulary_tensors(model).items()}
    head: Any = model.get_output_embeddings() if has_mlm_head(model) else None
    narrow = isinstance(head, nn.Linear) and len(head.weight) == model.config.vocab_size
    if narrow:
        # Logits of all tokens would take as much memory as the embeddings.
        for name, parameter in list(head.named_parameters(recurse=False)):
            setattr(head, name, nn.Parameter(parameter[columns], requires_grad=False))
    weights.release()
    for module in model.modules():
        for layer in module if isinstance(module, nn.ModuleList) else ():
            layer.register_forward_hook(lambda *_: weights.release())
    # A hook, since a model that returns its hidden states keeps those of every layer.
    last: list[torch.Tensor] = []
    model.base_model.register_forward_hook(lambda *call: last.append(call[2][0]))
    run = Run(rows, [], [] if has_mlm_head(model) else None)
    size = 1 if padding is None else SENTENCES_PER_BATCH
    for start in range(0, len(sentences), size):
        batch = sentences[start : start + size]
        ids = pad_sequence([torch.tensor(s) for s in batch], True, padding or 0)
        mask = pad_sequence([torch.ones(len(s), dtype=torch.long) for s in batch], True)
        output = model(input_ids=ids, attention_mask=mask)
        hidden = last.pop()
        for place, sentence in enumerate(batch):
            run.hidden.append(hidden[place, : len(sentence)].clone())
            if run.logits is not None:
                positions = torch.linspace(0, len(sentence) - 1, POSITIONS_PER_SENTENCE).long()
                logits = output.logits[place, positions]
                run.logits.append(logits if narrow else logits[:, columns])
    return run


def check_rows(reduced: Path, before: Run, after: Run) -> None:
    """Raise InputError that names the first token whose row is not its old one."""
    if before.logits is not None and after.logits is None:
        raise InputError(f"{reduced}: the old model has an MLM head, and this one has none")
    for name, old in before.rows.items():
        if name not in after.rows:
            raise InputError(f"{reduced}: tensor {name} of the old model is missing")
        wrong = (after.rows[name] != old).reshape(len(old), -1).any(dim=1).nonzero()
        if len(wrong):
            token = load_fast_tokenizer(reduced).convert_ids_to_tokens(int(wrong[0]))
            raise InputError(
                f"{reduced}: {name}: the row of token {token!r} is not its old one "
                f"({len(wrong):,} of {len(old):,} rows are wrong)"
            )


def compare_results(
    reduced: Path, sentences: Sequence[Sentence], before: Run, after: Run
) -> float | None:
    """Return the largest relative difference of a logit, None without MLM heads.

    Raises:
        InputError: hidden states are not equal bit for bit, or a logit differs by more than
            LOGIT_TOLERANCE.
    """
    for sentence, old, new in zip(sentences, before.hidden, after.hidden, strict=True):
        if not torch.equal(old, new):
            text = sentence.text[:60]
            raise InputError(f"{reduced}: other hidden states than the old model for {text!r}")
    if before.logits is None or after.logits is None:
        return None
    largest = 0.0
    for sentence, old, new in zip(sentences, before.logits, after.logits, strict=True):
        difference = float((old - new).abs().max())
        relative = difference / max(1.0, float(old.abs().max()))
        # Written so that a logit that is not a number counts as different.
        if not relative <= LOGIT_TOLERANCE:
            raise InputError(
                f"{reduced}: MLM logits differ from the old ones by {difference:.2g} for "
                f"{sentence.text[:60]!r}"
            )
        largest = max(largest, relative)
    return largest
