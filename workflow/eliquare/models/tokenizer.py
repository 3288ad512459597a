"""Train a tokenizer on documents, for a teacher that is pre-trained from nothing.

eliquare models tokenizer --documents DOCUMENTS --tokenizer wordpiece --vocab-size 8000 --output O

SentencePiece learns the tokens: the same ones from the same text each time. The trainers of the
tokenizers library break ties by the order of a hash table, which changes from run to run.
"""

import io
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from pydantic import Field
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from eliquare.cli import Options
from eliquare.corpus.documents import sample_texts
from eliquare.io import InputError, atomic_dir

WORDPIECE_ROLES = {
    **{"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
    **{"mask_token": "[MASK]"},
}
UNIGRAM_ROLES = {
    **{"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"},
    **{"sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"},
}
WORDPIECE_SPECIALS, UNIGRAM_SPECIALS = (
    list(dict.fromkeys(roles.values())) for roles in (WORDPIECE_ROLES, UNIGRAM_ROLES)
)
SPECIALS = len(WORDPIECE_SPECIALS)
WORD_START = "▁"

logger = logging.getLogger(__name__)


class TokenizerOptions(Options):
    """Options of ``models tokenizer``."""

    documents: Path = Field(description="Documents folder to learn from.")
    tokenizer: Literal["wordpiece", "unigram"] = Field(
        "wordpiece", description="Kind of tokenizer: as BERT's, or as XLM-R's."
    )
    vocab_size: int = Field(30000, ge=1, description="Tokens, special ones included.")
    max_documents: int = Field(
        200_000, ge=1, description="Documents to learn from at most, spread over the corpus."
    )
    output: Path = Field(description="Folder to make.")


def train_tokenizer(options: TokenizerOptions) -> None:
    """Train and save the tokenizer."""
    learn = learn_wordpiece if options.tokenizer == "wordpiece" else learn_unigram
    texts = sample_texts(options.documents, options.max_documents)
    tokenizer = learn(texts, options.vocab_size)
    logger.info("%s tokens", f"{len(tokenizer):,}")
    with atomic_dir(options.output) as partial:
        tokenizer.save_pretrained(partial)


def learn_wordpiece(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Learn a cased WordPiece tokenizer as multilingual BERT has it (accents and case kept).

    The tokens are learnt as byte-pair encoding learns them, as BERT's own were; segmenting a word
    into the longest tokens that fit makes them WordPiece.
    """
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()

    def prepare(paragraph: str) -> str:
        words = splitter.pre_tokenize_str(normalizer.normalize_str(paragraph))
        return " ".join(word for word, _ in words)

    pieces = learn_pieces(paragraphs(texts, prepare), "bpe", size - SPECIALS)
    learnt = [as_wordpiece(piece) for piece, _ in pieces]
    bare = {token.removeprefix("##") for token in learnt}
    characters = sorted(token for token in bare if len(token) == 1)
    both_forms = [form for character in characters for form in (f"##{character}", character)]
    needed = SPECIALS + len(both_forms)
    if needed > size:
        raise too_small(size, needed)
    # The last tokens learnt make room for the second form of each character.
    order = dict.fromkeys([*WORDPIECE_SPECIALS, *both_forms, *filter(None, learnt)])
    vocabulary = {token: index for index, token in enumerate(list(order)[:size])}
    model = models.WordPiece(vocabulary, unk_token=WORDPIECE_ROLES["unk_token"])
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    decoder = decoders.WordPiece()
    return assemble(model, normalizer, splitter, decoder, pair, WORDPIECE_ROLES)


def as_wordpiece(piece: str) -> str:
    """Write a SentencePiece token as WordPiece does: ▁abc is abc, and abc is ##abc."""
    return piece.removeprefix(WORD_START) if piece.startswith(WORD_START) else f"##{piece}"


def learn_unigram(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Learn a Unigram tokenizer as XLM-R has it (the paper calls it BPE)."""
    normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    pieces = learn_pieces(paragraphs(texts, normalizer.normalize_str), "unigram", size - SPECIALS)
    vocabulary = [
        *((name, 0.0) for name in UNIGRAM_SPECIALS),
        *((piece, score) for piece, score in pieces if piece not in UNIGRAM_SPECIALS),
    ]
    model = models.Unigram(vocabulary, unk_id=UNIGRAM_SPECIALS.index(UNIGRAM_ROLES["unk_token"]))
    splitter, decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    pair = "<s> $A </s> </s> $B </s>"
    return assemble(model, normalizer, splitter, decoder, pair, UNIGRAM_ROLES)


def assemble(
    model: Any, normalizer: Any, splitter: Any, decoder: Any, pair: str, roles: dict[str, str]
) -> PreTrainedTokenizerFast:
    """Return the tokenizer made of these parts; ``pair`` is the template of two texts."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoder
    ends = roles["cls_token"], roles["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="{} $A {}".format(*ends),
        pair=pair,
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ends],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **roles)


def paragraphs(texts: Iterable[str], prepare: Callable[[str], str]) -> Iterator[str]:
    """Yield the paragraphs of texts, prepared, without empty ones."""
    for text in texts:
        yield from filter(None, map(prepare, text.splitlines()))


def learn_pieces(lines: Iterator[str], kind: str, size: int) -> list[tuple[str, float]]:
    """Learn ``size`` tokens; return them with their scores, in the order in which they are learnt.

    Raises:
        InputError: the size does not hold the characters of the text, or exceeds what can be
            learnt.
    """
    if size < 1:
        raise too_small(size + SPECIALS, SPECIALS + 1)
    learnt = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=learnt,
            model_type=kind,
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            split_by_unicode_script=False,
            max_sentence_length=1 << 20,
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        needs = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if needs:
            raise too_small(size + SPECIALS, int(needs[1]) + SPECIALS) from None
        raise InputError(
            f"vocab_size: {size + SPECIALS} tokens cannot be learnt from this corpus "
            f"({str(error).splitlines()[0]})"
        ) from None
    model = sentencepiece_model_pb2.ModelProto.FromString(learnt.getvalue())
    return [(entry.piece, entry.score) for entry in model.pieces[1:]]


def too_small(size: int, needed: int) -> InputError:
    """Return the error for a vocabulary that cannot hold the corpus's characters."""
    return InputError(
        f"vocab_size: {size} is too small, since the characters of this corpus and the special "
        f"tokens alone are {needed}; ask for more"
    )
