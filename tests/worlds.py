"""Small worlds for tests: text of the demo's languages, documents folders, tokenizers of each kind.

Everything is generated, so no test needs data from outside the repository.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path

import sentencepiece
import zstandard
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from demo_languages import lexicon, orthography, wiki
from demo_languages.articles import Page, Writer
from demo_languages.draw import Draw
from demo_languages.speaker import Speaker
from eliquare.models.tokenizer import learn_wordpiece

# Latin, Cyrillic and Devanagari letters.
CODES = ("qaa", "qab", "qac")
KINDS = ("wordpiece", "unigram", "bytes")
# The environment of a job that has no home, no caches and no temporary folder, in an ASCII locale;
# nobody, root neither, can make folders there.
BARE = {
    **dict.fromkeys(("HOME", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), "/proc/none"),
    "TMPDIR": "/proc/none",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}
SPECIALS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "cls_token": "<s>",
    "sep_token": "</s>",
}


def pages(code: str, articles: int) -> Iterator[Page]:
    """Yield the pages of a wiki with so many articles in one of the demo's languages."""
    words = lexicon.build(orthography.LANGUAGES[code], seed=1)
    return Writer(Speaker(lexicon.View(words, "all"), Draw(1, code, "dump"))).pages(articles)


def write_dump(folder: Path, code: str = "qaa", articles: int = 60) -> Path:
    """Write a mirror of dumps with one wiki; return the path of its dump."""
    wiki.write(orthography.LANGUAGES[code], pages(code, articles), folder)
    return next(folder.glob("*/*/*.xml.bz2"))


@cache
def texts(code: str = "qaa", articles: int = 60) -> tuple[str, ...]:
    """Return the prose of so many articles in one of the demo's languages."""
    prose = (re.sub(r"(?m)^[{|}=*#\[].*\n?", "", page.text) for page in pages(code, articles))
    return tuple(text.strip() for text in prose if len(text) > 100)


def write_documents(
    folder: Path, documents: tuple[str, ...] | list[str], titles: Sequence[str] = ()
) -> Path:
    """Write a documents folder with these texts, as the corpus stages do."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"documents": len(documents)}))
    characters = dict(sorted(Counter("".join(documents)).items()))
    (folder / "characters.json").write_text(json.dumps(characters))
    with zstandard.open(folder / "documents.jsonl.zst", "wt", encoding="utf-8") as file:
        for number, (text, title) in enumerate(zip_longest(documents, titles, fillvalue="")):
            row = {"id": str(number), "title": title, "text": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return folder


def write_tokenizer(kind: str, folder: Path, documents: tuple[str, ...] | list[str]) -> Path:
    """Write a folder with a fast tokenizer of one of KINDS, learnt from these texts."""
    if kind == "wordpiece":
        # That of tokenizers numbers its tokens in another order each time.
        tokenizer = learn_wordpiece(documents, 1200)
    else:
        backend = unigram(documents) if kind == "unigram" else byte_level(documents)
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


def unigram(documents: tuple[str, ...] | list[str], size: int = 1200) -> Tokenizer:
    """Learn SentencePiece's Unigram model with a marked word start, as XLM-R has it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in documents for line in text.split("\n")]),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [(name, 0.0) for name in names]
    for index in range(pieces.get_piece_size()):
        if pieces.id_to_piece(index) not in names:
            vocabulary.append((pieces.id_to_piece(index), pieces.get_score(index)))
    backend = Tokenizer(models.Unigram([*vocabulary, ("<mask>", 0.0)], unk_id=3))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return backend


def byte_level(documents: tuple[str, ...] | list[str], size: int = 1200) -> Tokenizer:
    """Learn a byte-level BPE, as RoBERTa has it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.train_from_iterator(
        documents,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return backend
