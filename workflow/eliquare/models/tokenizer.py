"""Learn a tokenizer from documents, for a teacher that is pre-trained from nothing.

python -m eliquare.models.tokenizer --documents D --kind wordpiece --vocabulary-size 8000 --output O
"""

import argparse
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from eliquare import stage
from eliquare.corpus import documents

VERSION = 2

WORDPIECE_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNIGRAM_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SPECIALS = len(WORDPIECE_SPECIALS)
SPACE = "▁"


def parser() -> argparse.ArgumentParser:
    """The options of this stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", required=True, help="documents folder to learn from")
    parser.add_argument("--kind", choices=["wordpiece", "unigram"], default="wordpiece")
    parser.add_argument("--vocabulary-size", type=int, default=8000, help="sub-words, specials too")
    parser.add_argument(
        "--max-documents", type=int, default=200_000, help="documents to learn from"
    )
    parser.add_argument("--output", required=True, help="folder to make")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Learn and save the tokenizer; raises InputError on an empty corpus."""
    learn = learn_wordpiece if arguments.kind == "wordpiece" else learn_unigram
    texts = spread_texts(Path(arguments.documents), arguments.max_documents)
    tokenizer = learn(texts, arguments.vocabulary_size)
    stage.say(f"{len(tokenizer):,} sub-words")
    with stage.whole_folder(arguments.output) as partial:
        tokenizer.save_pretrained(partial)


def spread_texts(folder: Path, most: int) -> Iterator[str]:
    """Texts spread evenly over the corpus, at most ``most`` of them."""
    kept = stage.read_json(folder / "report.json")["documents"]
    every = -(-kept // most)
    for number, document in enumerate(documents.read(folder)):
        if number % every == 0:
            yield document.text


def learn_pieces(sentences: Iterator[str], kind: str, size: int) -> list[tuple[str, float]]:
    """Sub-words with their scores, in the order in which SentencePiece learnt them.

    SentencePiece learns the same from the same text each time; the trainers of the tokenizers
    library break ties by the order of a hash table, which changes from run to run.
    """
    if size < 1:
        raise stage.InputError(
            f"vocabulary_size: {size + SPECIALS} is too small, since the special tokens alone are "
            f"{SPECIALS}; ask for more"
        )
    learnt = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
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
        raise stage.InputError(
            f"vocabulary_size: {size + SPECIALS} sub-words cannot be learnt from this corpus "
            f"({str(error).splitlines()[0]})"
        ) from None
    model = sentencepiece_model_pb2.ModelProto.FromString(learnt.getvalue())
    return [(entry.piece, entry.score) for entry in model.pieces[1:]]


def too_small(size: int, needed: int) -> stage.InputError:
    """The error for a vocabulary that cannot hold the corpus's characters."""
    return stage.InputError(
        f"vocabulary_size: {size} is too small, since the characters of this corpus and the "
        f"special tokens alone are {needed}; ask for more"
    )


def running_text(texts: Iterator[str], prepare: Callable[[str], str]) -> Iterator[str]:
    """Paragraphs as the learner takes them, normalised and cut into words as the tokenizer does."""
    for text in texts:
        for paragraph in text.splitlines():
            prepared = prepare(paragraph)
            if prepared:
                yield prepared


def learn_wordpiece(texts: Iterator[str], size: int) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer as multilingual BERT has it (accents and case kept).

    The pieces are learnt as byte-pair encoding learns them, as BERT's own were; cutting a word
    into the longest pieces that fit makes them WordPiece.
    """
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    words = pre_tokenizers.BertPreTokenizer()

    def prepare(paragraph: str) -> str:
        cut = words.pre_tokenize_str(normalizer.normalize_str(paragraph))
        return " ".join(word for word, _ in cut)

    pieces = learn_pieces(running_text(texts, prepare), "bpe", size - len(WORDPIECE_SPECIALS))
    learnt = [as_wordpiece(piece) for piece, _ in pieces]
    bare = {piece.removeprefix("##") for piece in learnt}
    characters = sorted(piece for piece in bare if len(piece) == 1)
    both = [form for character in characters for form in (f"##{character}", character)]
    needed = len(WORDPIECE_SPECIALS) + len(both)
    if needed > size:
        raise too_small(size, needed)
    # The last pieces learnt make room for the second form of each character.
    order = list(dict.fromkeys([*WORDPIECE_SPECIALS, *both, *filter(None, learnt)]))[:size]
    vocabulary = {piece: number for number, piece in enumerate(order)}
    pad, unknown, cls, sep, mask = WORDPIECE_SPECIALS
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(name, vocabulary[name]) for name in (cls, sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
        model_max_length=512,
    )


def as_wordpiece(piece: str) -> str:
    """A SentencePiece sub-word in WordPiece's writing: ▁abc is abc, and abc is ##abc."""
    return piece.removeprefix(SPACE) if piece.startswith(SPACE) else f"##{piece}"


def learn_unigram(texts: Iterator[str], size: int) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer as XLM-R has it (the paper calls it BPE; it is SentencePiece Unigram)."""
    begin, pad, end, unknown, mask = UNIGRAM_SPECIALS
    normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    prepared = running_text(texts, normalizer.normalize_str)
    pieces = learn_pieces(prepared, "unigram", size - len(UNIGRAM_SPECIALS))
    specials = [(name, 0.0) for name in UNIGRAM_SPECIALS]
    vocabulary = [
        *specials,
        *((piece, score) for piece, score in pieces if piece not in UNIGRAM_SPECIALS),
    ]
    unknown_id = UNIGRAM_SPECIALS.index(unknown)
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown_id))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(name, UNIGRAM_SPECIALS.index(name)) for name in (begin, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        cls_token=begin,
        eos_token=end,
        sep_token=end,
        pad_token=pad,
        unk_token=unknown,
        mask_token=mask,
        model_max_length=512,
    )


if __name__ == "__main__":
    stage.main(parser(), run)
