"""Score a model without fine-tuning: held-out text, pairs of texts, topics and retrieval.

    eliquare evaluation intrinsic --model FOLDER --system NAME --language sw --text held_out.txt \
        --retrieval retrieval.tsv --output O --tasks '{"name": "sw-agreement", "language": "sw", \
        "kind": "minimal_pairs", "test": "pairs.tsv", "text_column": "right", \
        "text_pair_column": "wrong"}'

What its embeddings tell of a text is scored in ``embed.py``. Beside the scores stand the model's
answers at ten masked words, and its tokens of ten long words, for people (``examples.py``).

The score of a text is its pseudo-log-likelihood (Salazar et al. 2020), word by word: each token is
predicted where it and the later tokens of its word are masked (PLL-word-l2r of Kauf and Ivanova
2023; ``within_word_l2r`` in minicons, the library with which MultiBLiMP scores causal models). With
each token masked alone, the rest of a word gives it away, and a tokenizer that cuts words into many
tokens would look good. So the tokens of a word add up to the probability of the word, which can be
compared across tokenizers.

Words are found in the text and not by the tokenizer (``word_ids``), since some tokenizers take a
sentence for one word: runs of letters and digits, and every other character by itself, also those
of scripts without spaces.
"""

import logging
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from tokenizers import Encoding
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from eliquare import cli
from eliquare.config.base import Threads
from eliquare.config.sources import EMBEDDED, UNLABELLED, UNTRAINED
from eliquare.config.tasks import TaskData
from eliquare.corpus.documents import UNIT
from eliquare.corpus.tokenization import SpecialTokens
from eliquare.evaluation import data, embed
from eliquare.evaluation.examples import Cloze, Spelling, draw_clozes, long_words
from eliquare.evaluation.readers import Example, numbered_lines, read
from eliquare.io import InputError, atomic_write, why_unavailable, write_json
from eliquare.models.loading import (
    has_mlm_head,
    load_fast_tokenizer,
    load_model,
    max_sequence_length,
    quiet,
)
from eliquare.models.sentence import UnknownEncoder
from eliquare.training.outputs import outputs_at, projection_of
from eliquare.vocabulary.report import measure_texts

# Longer texts are read in windows. More context hardly changes a prediction, and costs a lot.
LONGEST_WINDOW = 512
TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 32768}
# What a character costs that is hidden in an unknown token: one of all code points of Unicode.
BITS_OF_HIDDEN_CHARACTER = math.log2(0x110000)
ANSWERS = 5  # the most probable tokens of a masked word that are kept

Word = Sequence[int]  # the token ids of one word

logger = logging.getLogger(__name__)


class Task(TaskData):
    """A file of pairs of texts, or of texts with labels."""

    kind: Literal["minimal_pairs", "retrieval", "similarity", "classification"] = Field(
        description="Kind of task."
    )
    name: str = Field(description="Name of the task.")


class IntrinsicOptions(cli.Options):
    """Options of ``evaluation intrinsic``."""

    model: Path = Field(description="Model folder.")
    system: str = Field(description="Name of the system, for the output.")
    language: str = Field(description="Code of the language, for the output.")
    text: Path = Field(description="Held-out text, a sentence per line.")
    retrieval: Path | None = Field(
        None, description="Table with the columns `query` and `text`: titles of held-out documents."
    )
    tasks: list[Task] = Field(
        [],
        description="Of kind minimal_pairs, retrieval, similarity or classification, each as JSON.",
    )
    max_pairs: int | None = Field(None, ge=1, description="Pairs of each file at most.")
    threads: Threads = Field(2, description="Threads of the processor.")
    output: Path = Field(description="JSON file to write.")


class Segmented(NamedTuple):
    """The tokens of a text by word, and how many of its characters unknown tokens hide."""

    words: Sequence[Word]
    hidden: int


class Masked(NamedTuple):
    """An input in which one token is predicted: the number of its text, its place, its id."""

    text: int
    input_ids: list[int]
    place: int
    token: int


def evaluate(options: IntrinsicOptions) -> None:
    """Score a model on held-out text, pairs of texts, topics and retrieval, without fine-tuning."""
    quiet()
    if reason := why_unavailable(options.model):
        names = {"system": options.system, "language": options.language}
        with atomic_write(options.output) as partial:
            write_json(partial, {**names, "unavailable": reason})
        return
    reasons = {task.name: data.unavailable_task(task) for task in options.tasks}
    there = [task for task in options.tasks if not reasons[task.name]]
    pairs = {
        task.name: test_pairs(task, options.max_pairs) for task in there if task.kind in UNTRAINED
    }
    labelled = {task.name: data.load(task) for task in there if task.kind not in UNTRAINED}
    minimal = [task.name for task in options.tasks if task.kind == "minimal_pairs"]
    of_embeddings = [task.name for task in options.tasks if task.kind in EMBEDDED]
    queries = embed.read_titles(options.retrieval) if options.retrieval else []
    texts = [line for _, line in numbered_lines(options.text) if line.strip()]
    if not texts:
        raise InputError(f"{options.text}: no text in it; expected a sentence per line")
    torch.set_num_threads(options.threads)
    tokenizer = load_fast_tokenizer(options.model)
    tokenizer.backend_tokenizer.encode_special_tokens = True
    measured = measure_texts({"own": tokenizer}, texts)
    report: dict[str, Any] = {
        "system": options.system,
        "language": options.language,
        "sentences": len(texts),
        "words": measured["words"],
        "characters": sum(map(len, texts)),
        **measured["own"],
        "bits_per_character": None,
        "texts": [],
        "minimal_pairs": {
            name: {"unavailable": reasons[name], "pairs": 0, "accuracy": None}
            if reasons[name]
            else {"pairs": len(pairs[name]), "accuracy": None}
            for name in minimal
        },
        "long_words": Spelling(tokenizer).segment(long_words(texts)),
        "masked_sentences": [],
        "windowed_texts": 0,
        "remark": "",
    }
    model = load_model(options.model, torch.float32)
    report["remark"] = why_without_scores(model, tokenizer)
    if report["remark"]:
        logger.warning("%s: %s: fertility and [UNK] alone", options.model, report["remark"])
    else:
        scorer = Scorer(model, tokenizer)
        report |= scorer.score(texts)
        for name in pairs.keys() & set(minimal):
            accuracy = scorer.accuracy([each.texts for each in pairs[name]])
            report["minimal_pairs"][name]["accuracy"] = accuracy
        report["masked_sentences"] = scorer.answers(draw_clozes(texts))
        report["windowed_texts"] = scorer.windowed
        if scorer.windowed:
            logger.info("%d long texts were read in windows", scorer.windowed)
    embedded = {name: pairs[name] for name in of_embeddings if name in pairs}
    try:
        encoder = embed.Encoder(options.model, model)
    except UnknownEncoder as error:
        # A model beside ours, as LaBSE with its dense layer: its other scores stand.
        logger.warning("%s; its embeddings are not scored", error)
        unknown = "its embeddings are not scored, since it makes them in a way not known here"
        report["remark"] = "; ".join(filter(None, [report["remark"], unknown]))
    else:
        report["embeddings"] = embed.embeddings(encoder, labelled, queries, embedded)
        report["embeddings"]["pairs"] |= {
            name: {"unavailable": reasons[name]} for name in of_embeddings if reasons[name]
        }
    with atomic_write(options.output) as partial:
        write_json(partial, report)


def test_pairs(task: Task, most: int | None) -> list[Example]:
    """Return the pairs of a task's test split; raise InputError for what is none."""
    texts = [column for column in (task.text_column, task.text_pair_column) if column]
    columns = texts if task.kind in UNLABELLED else [task.label_column, *texts]
    return read(task.kind, task.test or "", columns)[:most]


def why_without_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> str:
    """Return why a model predicts no tokens; empty for a masked language model."""
    if not has_mlm_head(model):
        return "no head for masked language modelling is stored"
    if tokenizer.mask_token_id is None:
        return "its tokenizer has no mask token"
    try:
        projection_of(model)
    except InputError as error:
        return str(error).partition(": ")[2]
    return ""


def word_of_tokens(text: str, starts: Sequence[int], encoding: Encoding) -> list[int]:
    """Return for each token of a text the number of its word; ``starts`` are where words begin.

    A token belongs to the word in which its first character is, white space aside.
    """

    def word(begin: int) -> int:
        if begin < len(text) and not text[begin].isspace():
            return bisect_right(starts, begin) - 1
        return min(bisect_left(starts, begin), len(starts) - 1)

    return [word(begin) for begin, _ in encoding.offsets]


def segment(tokenizer: PreTrainedTokenizerFast, text: str) -> Segmented:
    """Return the tokens of a text by word."""
    starts = [match.start() for match in UNIT.finditer(text)]
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    numbers = word_of_tokens(text, starts, encoding)
    words = [
        [token for token, _ in tokens]
        for _, tokens in groupby(zip(encoding.ids, numbers, strict=True), itemgetter(1))
    ]
    hidden = {
        character
        for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
        for character in range(begin, end)
        if token == tokenizer.unk_token_id and not text[character].isspace()
    }
    return Segmented(words, len(hidden))


class Scorer:
    """A masked language model that scores texts.

    Attributes:
        windowed: Texts scored so far that are longer than the model's longest input.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        tokens_per_batch: int | None = None,
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: Any = model.to(device).eval()  # type: ignore[arg-type]
        self.projection = projection_of(model)
        self.tokenizer = tokenizer
        self.around = SpecialTokens.of(tokenizer.backend_tokenizer)
        longest = min(max_sequence_length(model), LONGEST_WINDOW)
        self.capacity = longest - self.around.size
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[device]
        self.windowed = 0

    def score(self, texts: Sequence[str]) -> dict[str, Any]:
        """Return the bits per character of all texts, and bits and characters of each.

        A character in an unknown token costs as much as one of Unicode's code points chosen
        blindly, so that a tokenizer does not gain by not knowing.
        """
        segmented = [segment(self.tokenizer, text) for text in texts]
        nats = self.log_likelihoods([each.words for each in segmented])
        bits = [
            BITS_OF_HIDDEN_CHARACTER * each.hidden - value / math.log(2)
            for each, value in zip(segmented, nats, strict=True)
        ]
        return {
            "bits_per_character": math.fsum(bits) / sum(map(len, texts)),
            "texts": [
                {"bits": value, "characters": len(text)}
                for text, value in zip(texts, bits, strict=True)
            ],
        }

    def accuracy(self, pairs: Iterable[tuple[str, ...]]) -> float:
        """Return the share of pairs whose right text has the higher score; a tie counts half."""
        texts = list(chain.from_iterable(pairs))
        scores = self.log_likelihoods([segment(self.tokenizer, text).words for text in texts])
        points = [
            0.5 if right == wrong else float(right > wrong)
            for right, wrong in zip(scores[::2], scores[1::2], strict=True)
        ]
        return math.fsum(points) / len(points)

    @torch.inference_mode()
    def log_likelihoods(self, texts: Sequence[Sequence[Word]]) -> list[float]:
        """Return the pseudo-log-likelihood of each text in nats.

        Batches go from the longest inputs to the shortest, so that little of them is padding. Two
        texts of the same tokens are scored once, and so are a tie.
        """
        keys = [tuple(map(tuple, words)) for words in texts]
        order = sorted(set(keys), key=lambda words: (-sum(map(len, words)), words))
        self.windowed += sum(sum(map(len, words)) > self.capacity for words in order)
        parts: dict[int, list[float]] = defaultdict(list)
        for batch in self.batches(order):
            for row, value in zip(batch, self.log_probabilities(batch), strict=True):
                parts[row.text].append(value)
        scores = {words: math.fsum(parts[number]) for number, words in enumerate(order)}
        return [scores[key] for key in keys]

    def batches(self, texts: Iterable[Sequence[Word]]) -> Iterator[list[Masked]]:
        """Yield the inputs of texts, longest first, in batches of ``tokens_per_batch`` at most."""
        batch: list[Masked] = []
        for number, words in enumerate(texts):
            for row in self.masked(number, words):
                if batch and len(batch[0].input_ids) * (len(batch) + 1) > self.tokens_per_batch:
                    yield batch
                    batch = []
                batch.append(row)
        if batch:
            yield batch

    def masked(self, number: int, words: Sequence[Word]) -> Iterator[Masked]:
        """Yield an input for each token, in which it and the rest of its word are masked.

        Of a long text, the input is the window with the token in its middle.
        """
        ids = list(chain.from_iterable(words))
        ends = accumulate(map(len, words))
        end_of = [end for end, word in zip(ends, words, strict=True) for _ in word]
        mask = self.tokenizer.mask_token_id
        for place, end in enumerate(end_of):
            hidden = [*ids[:place], *[mask] * (end - place), *ids[end:]]
            yield self.window(number, hidden, place, ids[place])

    def window(self, number: int, ids: Sequence[int], place: int, token: int) -> Masked:
        """Return the input with special tokens; of a long text, the part around the place."""
        start = max(min(place - self.capacity // 2, len(ids) - self.capacity), 0)
        part = ids[start : start + self.capacity]
        input_ids = [*self.around.prefix, *part, *self.around.suffix]
        return Masked(number, input_ids, len(self.around.prefix) + place - start, token)

    @torch.inference_mode()
    def answers(self, clozes: Sequence[Cloze]) -> list[dict[str, Any]]:
        """Return the ANSWERS most probable tokens at the masked word of each sentence.

        One mask stands for the whole word, whatever number of tokens it has, so that the mask does
        not tell how long it is.
        """
        spelling = Spelling(self.tokenizer)
        answered = []
        for cloze in clozes:
            log_p = torch.log_softmax(self.logits([self.with_mask(cloze)])[0].float(), dim=-1)
            best = log_p.topk(min(ANSWERS, len(log_p)))
            tokens = self.tokenizer.convert_ids_to_tokens(best.indices.tolist())
            answers = [
                {"token": spelling.answer(token), "probability": round(math.exp(value), 6)}
                for token, value in zip(tokens, best.values.tolist(), strict=True)
            ]
            answered.append({**cloze.in_parts(), "answers": answers})
        return answered

    def with_mask(self, cloze: Cloze) -> Masked:
        """Return the input in which one mask stands for the tokens that begin in a word.

        A token that began before the word stays; where no token begins in it, as in a language
        written without spaces, the mask follows.
        """
        text = cloze.text
        starts = [match.start() for match in UNIT.finditer(text)]
        encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        numbers = word_of_tokens(text, starts, encoding)
        word = bisect_right(starts, cloze.start) - 1
        first, last = bisect_left(numbers, word), bisect_right(numbers, word)
        mask = self.tokenizer.mask_token_id
        return self.window(0, [*encoding.ids[:first], mask, *encoding.ids[last:]], first, mask)

    def log_probabilities(self, batch: Sequence[Masked]) -> list[float]:
        """Return the log-probability of the token of each input, in nats."""
        logits = self.logits(batch)
        tokens = torch.tensor([row.token for row in batch], device=logits.device)
        losses = cross_entropy(logits, tokens, reduction="none")
        return [-loss for loss in losses.tolist()]

    def logits(self, batch: Sequence[Masked]) -> torch.Tensor:
        """Return ``logits[inputs, vocabulary]`` at the place of each input.

        The MLM head runs at these places alone: logits of all positions would take most of the
        time where the vocabulary is large.
        """
        device = self.model.device
        rows = [torch.tensor(row.input_ids) for row in batch]
        padding = self.tokenizer.pad_token_id or 0
        inputs = {
            "input_ids": pad_sequence(rows, batch_first=True, padding_value=padding).to(device),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], True).to(device),
        }
        length = inputs["input_ids"].shape[1]
        places = [number * length + row.place for number, row in enumerate(batch)]
        head = outputs_at(self.model, inputs, torch.tensor(places, device=device)).head
        logits: torch.Tensor = self.projection(head)
        return logits
