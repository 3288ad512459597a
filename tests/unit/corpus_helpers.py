"""Real text of several scripts, and small tokenizers of the three kinds learnt from it."""

import bz2
import gzip
import html
import io
import json
import os
import re
from pathlib import Path

import pytest
import sentencepiece
import zstandard
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("ELIQUARE_DATA", ROOT / "../shared/data"))
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason=f"no real data in {DATA}; set ELIQUARE_DATA to its folder"
)

LANGUAGES = ("uk", "mr", "bn", "ja")
KINDS = ("wordpiece", "unigram", "bytes", "bytes with a space before")
SPECIALS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}


def articles(language: str, characters: int = 150_000) -> list[str]:
    """The first articles of a real dump, wiki markup and all, about so many characters."""
    (path,) = DATA.glob(f"mirror/dumps.wikimedia.org/{language}wiki/*/*.bz2")
    with bz2.open(path, "rt", encoding="utf-8") as file:
        dump = file.read(4 * characters)
    texts, size = [], 0
    for text in re.findall(r"<text[^>]*>(.*?)</text>", dump, re.DOTALL):
        texts.append(html.unescape(text)[:20_000])
        size += len(texts[-1])
        if size > characters:
            break
    return texts


def write_documents(folder: Path, texts: list[str]) -> Path:
    """A documents folder."""
    folder.mkdir(parents=True)
    with zstandard.open(folder / "documents.jsonl.zst", "wt", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            row = {"id": str(number), "title": "", "text": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return folder


def write_tokenizer(kind: str, folder: Path, texts: list[str]) -> Path:
    """A model folder that holds only a tokenizer."""
    if kind == "wordpiece":
        with gzip.open(DATA / "mbert/vocab.txt.gz", "rt", encoding="utf-8") as file:
            vocabulary = {word: number for number, word in enumerate(file.read().split())}
        tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=False, model_max_length=512)
    else:
        backend = unigram(texts) if kind == "unigram" else byte_level(texts, "before" in kind)
        begin, end = backend.token_to_id("<s>"), backend.token_to_id("</s>")
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> </s> $B </s>",
            special_tokens=[("<s>", begin), ("</s>", end)],
        )
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, model_max_length=512, **SPECIALS
        )
    tokenizer.save_pretrained(folder)
    return folder


def unigram(texts: list[str]) -> Tokenizer:
    """SentencePiece's Unigram model with a marked word start, as XLM-R has it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in texts for line in text.split("\n")]),
        model_writer=model,
        vocab_size=3000,
        hard_vocab_limit=False,
        character_coverage=0.99,
        minloglevel=2,
        num_threads=1,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [(name, 0.0) for name in names]
    for number in range(pieces.get_piece_size()):
        if pieces.id_to_piece(number) not in names:
            vocabulary.append((pieces.id_to_piece(number), pieces.get_score(number)))
    backend = Tokenizer(models.Unigram([*vocabulary, ("<mask>", 0.0)], unk_id=3))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return backend


def byte_level(texts: list[str], space_before: bool) -> Tokenizer:
    """Byte-level BPE, as RoBERTa has it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space_before)
    backend.train_from_iterator(
        (text[:3000] for text in texts),
        trainers.BpeTrainer(
            vocab_size=1500,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return backend
