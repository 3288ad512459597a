"""Small teachers with tokenizers trained on real text, and folders in the formats of the rooms."""

import gzip
import json
import os
import unicodedata
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
import zstandard
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DebertaV2Tokenizer,
    DistilBertConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaTokenizerFast,
)
from transformers.convert_slow_tokenizer import generate_merges

from eliquare.models.tokenizer import as_wordpiece, learn_pieces

DATA = Path(os.environ.get("ELIQUARE_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data at {DATA} (set ELIQUARE_DATA)"
)

SIZE = 2500
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
GEMMA_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
TOPICS = ["uk", "mr", "bn", "ja", "he", "fr", "sw"]


@cache
def real_sentences(language: str) -> list[str]:
    """Sentences of the topic task (SIB-200), which exists in many scripts."""
    lines = (DATA / f"tasks/{language}/topic/train.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[-1] for line in lines[1:]]


@cache
def all_sentences(each: int = 150) -> list[str]:
    return [line for language in TOPICS for line in real_sentences(language)[:each]]


def swahili_news(count: int) -> list[str]:
    with gzip.open(DATA / "text/sw/voa.txt.gz", "rt", encoding="utf-8") as file:
        return [line.strip() for line in islice(file, count)]


def template(cls: str, sep: str, ids: dict[str, int], pair: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=[(t, ids[t]) for t in (cls, sep)]
    )


# Learnt by SentencePiece, which learns the same from the same text each time: the WordPiece and
# Unigram trainers of the tokenizers library break ties by the order of a hash table.


@cache
def learnt_wordpieces() -> list[str]:
    """The characters in the forms in which they stand in words, and then longer pieces."""
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    lines = [[w for w, _ in cut(normalizer.normalize_str(line))] for line in all_sentences()]
    words = {word for line in lines for word in line}
    characters = {word[0] for word in words} | {f"##{c}" for word in words for c in word[1:]}
    pieces = learn_pieces(map(" ".join, lines), "bpe", SIZE)
    longer = [as_wordpiece(piece) for piece, _ in pieces]
    return list(dict.fromkeys([*sorted(characters), *filter(None, longer)]))


@cache
def learnt_unigrams(kind: str, number: int) -> list[tuple[str, float]]:
    """That many pieces with their scores, from text normalised in one form of Unicode."""
    lines = (unicodedata.normalize(kind, line) for line in all_sentences())
    return learn_pieces(lines, "unigram", number + 1)


@cache
def wordpiece(front: bool) -> PreTrainedTokenizerFast:
    """A cased WordPiece tokenizer; its special tokens at the front, or (as in mBERT) further on."""
    fillers = [] if front else [f"[unused{n}]" for n in range(40)]
    order = ["[PAD]", *fillers, *BERT_SPECIALS[1:], *learnt_wordpieces()][: SIZE + len(fillers)]
    ids = {word: number for number, word in enumerate(order)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(BERT_SPECIALS)
    tokenizer.post_processor = template("[CLS]", "[SEP]", ids, "[CLS] $A [SEP] $B:1 [SEP]:1")
    names = {f"{s[1:-1].lower()}_token": s for s in BERT_SPECIALS}
    kind = BertTokenizerFast if front else PreTrainedTokenizerFast
    options = {"do_lower_case": False, "strip_accents": False} if front else {}
    return kind(tokenizer_object=tokenizer, model_max_length=128, **names, **options)


@cache
def unigram(xlmr_class: bool) -> PreTrainedTokenizerFast:
    pieces = [*((s, 0.0) for s in ROBERTA_SPECIALS), *learnt_unigrams("NFKC", SIZE - 5)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    ids = tokenizer.get_vocab()
    tokenizer.post_processor = template("<s>", "</s>", ids, "<s> $A </s> </s> $B </s>")
    names = {f"{s}_token": f"<{s}>" for s in ("pad", "unk", "mask")}
    names |= {f"{s}_token": "<s>" for s in ("bos", "cls")}
    names |= {f"{s}_token": "</s>" for s in ("eos", "sep")}
    kind = XLMRobertaTokenizerFast if xlmr_class else PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, model_max_length=128, **names)


@cache
def deberta_unigram() -> DebertaV2Tokenizer:
    """The order of mDeBERTa: [PAD], [CLS], [SEP], [UNK], the pieces, [MASK] added at the end."""
    order = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    pieces = [*((s, 0.0) for s in order), *learnt_unigrams("NFC", SIZE - 5)]
    return DebertaV2Tokenizer(vocab=pieces, model_max_length=128)


@cache
def byte_bpe(roberta: bool) -> PreTrainedTokenizerFast:
    """Byte-level BPE with its special tokens at the front (RoBERTa) or the end (ModernBERT)."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - (1 if roberta else 5),
        special_tokens=ROBERTA_SPECIALS if roberta else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(all_sentences(), trainer)
    if roberta:
        model = json.loads(tokenizer.to_str())["model"]
        vocabulary = model["vocab"] | {"<mask>": SIZE - 1}
        merges = [tuple(merge) for merge in model["merges"]]
        return RobertaTokenizerFast(vocab=vocabulary, merges=merges, model_max_length=128)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(BERT_SPECIALS)
    ids = tokenizer.get_vocab()
    tokenizer.post_processor = template("[CLS]", "[SEP]", ids, "[CLS] $A [SEP] $B:1 [SEP]:1")
    names = {f"{s[1:-1].lower()}_token": s for s in BERT_SPECIALS}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **names)


@cache
def sentencepiece_bpe() -> PreTrainedTokenizerFast:
    """BPE as mmBERT (Gemma) has it: every split of a sub-word is a merge, bytes to fall back on."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=[*GEMMA_SPECIALS, *fallback], show_progress=False
    )
    learner.train_from_iterator(all_sentences(), trainer)
    learnt = json.loads(learner.to_str())["model"]
    # SentencePiece puts the single characters last, and gives each piece its rank as a score.
    single = [piece for piece in learnt["vocab"] if len(piece) == 1]
    pieces = [piece for piece in learnt["vocab"] if piece not in single] + single
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    scores = {piece: -float(number) for piece, number in vocabulary.items()}
    merges = generate_merges(vocabulary, scores, [*GEMMA_SPECIALS, *fallback])
    names = {f"{s}_token": f"<{s}>" for s in ("pad", "eos", "bos", "unk", "mask")}
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(GEMMA_SPECIALS)
    tokenizer.post_processor = template("<bos>", "<eos>", vocabulary, "<bos> $A <eos> $B <eos>")
    options = {"cls_token": "<bos>", "sep_token": "<eos>", "model_max_length": 128}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options, **names)


TOKENIZERS = {
    "bert": lambda variant: wordpiece(variant != "padded"),
    "distilbert": lambda variant: wordpiece(True),
    "xlmr": lambda variant: unigram(variant != "other"),
    "roberta": lambda variant: byte_bpe(True),
    "modernbert": lambda variant: byte_bpe(False),
    "mmbert": lambda variant: sentencepiece_bpe(),
    "deberta": lambda variant: deberta_unigram(),
}
FAMILIES = [
    *("bert", "bert-untied", "bert-padded", "distilbert", "xlmr", "xlmr-untied", "xlmr-other"),
    *("roberta", "modernbert", "modernbert-untied", "mmbert"),
    *("deberta", "deberta-padded", "deberta-v3", "deberta-narrow"),
]


def make_config(family: str, tokenizer: PreTrainedTokenizerFast) -> PretrainedConfig:
    """The configuration of a small model of a family."""
    name, _, variant = family.partition("-")
    shape = {"vocab_size": len(tokenizer) + (13 if variant == "padded" else 0)}
    shape["tie_word_embeddings"] = variant not in ("untied", "v3")
    if name == "distilbert":
        return DistilBertConfig(
            dim=24, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=128, **shape
        )
    specials = {"xlmr": ("pad", "bos", "eos"), "roberta": ("pad", "bos", "eos")}
    specials |= dict.fromkeys(("modernbert", "mmbert"), ("pad", "bos", "eos", "cls", "sep"))
    for role in specials.get(name, ("pad",)):
        token = getattr(tokenizer, f"{role}_token_id")
        alike = {"bos": "cls", "eos": "sep", "cls": "bos", "sep": "eos"}
        token = getattr(tokenizer, f"{alike[role]}_token_id") if token is None else token
        shape[f"{role}_token_id"] = token
    if name == "deberta":
        # As in mDeBERTa-v3-base, but for the sizes.
        shape |= {"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm"}
        shape |= {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
        shape |= {"position_biased_input": False, "max_relative_positions": -1}
        shape |= {"legacy": variant != "v3"}
        shape |= {"embedding_size": 16} if variant == "narrow" else {}
    kinds = {"bert": BertConfig, "xlmr": XLMRobertaConfig, "roberta": RobertaConfig}
    kinds |= {"deberta": DebertaV2Config, "modernbert": ModernBertConfig}
    kinds |= {"mmbert": ModernBertConfig}
    return kinds[name](
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=131,
        **shape,
    )


def make_teacher(family: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A random model of a family with its tokenizer; biases random too, so that mix-ups show."""
    torch.manual_seed(1)
    name, _, variant = family.partition("-")
    tokenizer = TOKENIZERS[name](variant)
    model = AutoModelForMaskedLM.from_config(make_config(family, tokenizer))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_documents(folder: Path, texts: list[str]) -> Path:
    """A documents folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = (
        json.dumps({"id": str(n), "title": f"title {n}", "text": text}, ensure_ascii=False)
        for n, text in enumerate(texts)
    )
    data = "".join(row + "\n" for row in rows).encode()
    (folder / "documents.jsonl.zst").write_bytes(zstandard.compress(data))
    (folder / "report.json").write_text(json.dumps({"documents": len(texts)}))
    characters = Counter("".join(texts))
    ordered = dict(sorted(characters.items(), key=lambda item: (-item[1], item[0])))
    (folder / "characters.json").write_text(json.dumps(ordered), encoding="utf-8")
    return folder


def write_counts(folder: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Path:
    """A counts folder; every text is a sentence and a document."""
    import csv

    folder.mkdir(parents=True, exist_ok=True)
    occurrences, sentences = Counter(), Counter()
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        occurrences.update(ids)
        sentences.update(set(ids))
    with (folder / "counts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "subword", "occurrences", "sentences", "documents"])
        for i, subword in enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))):
            writer.writerow([i, subword, occurrences[i], sentences[i], sentences[i]])
    totals = {"tokens": sum(occurrences.values()), "sentences": len(texts), "documents": len(texts)}
    (folder / "totals.json").write_text(json.dumps(totals))
    return folder
