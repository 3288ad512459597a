"""Small models of every family, with tokenizers of its kind learnt from generated text.

Special tokens stand where the family has them, positions and biases are as it has them, and all
parameters are random, so that a mix-up of rows shows.
"""

import json
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
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
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    BertTokenizerFast,
    DebertaV2Config,
    DebertaV2Tokenizer,
    DistilBertConfig,
    ElectraConfig,
    EuroBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RemBertConfig,
    RobertaConfig,
    RobertaTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaTokenizerFast,
    XLMRobertaXLConfig,
)
from transformers.convert_slow_tokenizer import generate_merges

import worlds
from eliquare.io import read_json, write_json
from eliquare.models.sentence import MODULES
from eliquare.models.tokenizer import as_wordpiece, learn_pieces
from eliquare.vocabulary import tokenizer as tokenizer_json
from eliquare.vocabulary.reduce import ReduceOptions, reduce
from eliquare.vocabulary.select import write_vocabulary

SIZE = 1200
# The demo's Latin, Cyrillic and Devanagari languages; one without spaces, of two scripts.
LANGUAGES = (*worlds.CODES, "spaceless")
FAMILIES = [
    *("bert", "bert-untied", "bert-padded", "distilbert", "electra"),
    *("xlmr", "xlmr-untied", "xlmr-other", "roberta", "modernbert", "modernbert-untied", "mmbert"),
    *("deberta", "deberta-padded", "deberta-v3", "deberta-narrow"),
    *("albert", "rembert", "eurobert", "xlmr_xl"),
]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
GEMMA_SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]


# Text


@cache
def sentences(language: str) -> list[str]:
    """Return a few hundred sentences of one of LANGUAGES."""
    if language == "spaceless":
        return [spaceless(sentence) for sentence in sentences("qaa")]
    text = "\n".join(worlds.texts(language, 30)).replace("।", ".\n")
    lines = text.replace(". ", ".\n").split("\n")
    return [line.strip() for line in lines if len(line.split()) > 3]


def spaceless(sentence: str) -> str:
    """Write a Latin sentence in Han and Hiragana, without spaces, as Japanese is."""
    letters = [
        chr((0x3042 if letter in "aeiouäöAEIOUÄÖ" else 0x4E00) + ord(letter) % 60)
        for letter in sentence
        if letter.isalpha()
    ]
    return "".join(letters) + "。"


@cache
def all_sentences(each: int = 120) -> list[str]:
    """Return sentences of all languages."""
    return [line for language in LANGUAGES for line in sentences(language)[:each]]


# Tokenizers. Learnt by SentencePiece where it can be, which learns the same from the same text each
# time: the trainers of the tokenizers library break ties by the order of a hash table.


def template(cls: str, sep: str, ids: dict[str, int], pair: str) -> processors.TemplateProcessing:
    """Return the post-processor that puts special tokens around a text."""
    return processors.TemplateProcessing(
        single=f"{cls} $A {sep}", pair=pair, special_tokens=[(t, ids[t]) for t in (cls, sep)]
    )


@cache
def learnt_wordpieces() -> list[str]:
    """Return characters in the forms in which they stand in words, and then longer tokens."""
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    lines = [[w for w, _ in split(normalizer.normalize_str(line))] for line in all_sentences()]
    words = {word for line in lines for word in line}
    characters = {word[0] for word in words} | {f"##{c}" for word in words for c in word[1:]}
    pieces = learn_pieces(map(" ".join, lines), "bpe", SIZE)
    longer = [as_wordpiece(piece) for piece, _ in pieces]
    return list(dict.fromkeys([*sorted(characters), *filter(None, longer)]))


@cache
def learnt_unigrams(form: str, number: int) -> list[tuple[str, float]]:
    """Return that many tokens with their scores, from text in one normal form of Unicode."""
    lines: Iterator[str] = (unicodedata.normalize(form, line) for line in all_sentences())
    return learn_pieces(lines, "unigram", number + 1)


@cache
def wordpiece(front: bool) -> PreTrainedTokenizerFast:
    """Return a cased WordPiece tokenizer; its special tokens in front, or (as mBERT) further on."""
    fillers = [] if front else [f"[unused{n}]" for n in range(40)]
    order = ["[PAD]", *fillers, *BERT_SPECIALS[1:], *learnt_wordpieces()][: SIZE + len(fillers)]
    ids = {word: index for index, word in enumerate(order)}
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
    """Return a Unigram tokenizer as XLM-R has it, of its class or of the general one."""
    pieces = [*((s, 0.0) for s in ROBERTA_SPECIALS), *learnt_unigrams("NFKC", SIZE - 5)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    ids = tokenizer.get_vocab()
    tokenizer.post_processor = template("<s>", "</s>", ids, "<s> $A </s> </s> $B </s>")
    kind = XLMRobertaTokenizerFast if xlmr_class else PreTrainedTokenizerFast
    return kind(tokenizer_object=tokenizer, model_max_length=128, **worlds.SPECIALS)


@cache
def deberta_unigram() -> DebertaV2Tokenizer:
    """Return mDeBERTa's order: [PAD], [CLS], [SEP], [UNK], the tokens, [MASK] added at the end."""
    order = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    pieces = [*((s, 0.0) for s in order), *learnt_unigrams("NFC", SIZE - 5)]
    return DebertaV2Tokenizer(vocab=pieces, model_max_length=128)


@cache
def byte_bpe(roberta: bool) -> PreTrainedTokenizerFast:
    """Return byte-level BPE, special tokens in front (RoBERTa) or at the end (ModernBERT)."""
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
    """Return BPE as mmBERT (Gemma) has it: every split of a token is a merge, fallback bytes."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace()
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=[*GEMMA_SPECIALS, *fallback], show_progress=False
    )
    learner.train_from_iterator(all_sentences(), trainer)
    learnt = json.loads(learner.to_str())["model"]
    # SentencePiece puts the single characters last, and gives each token its rank as a score.
    single = [piece for piece in learnt["vocab"] if len(piece) == 1]
    pieces = [piece for piece in learnt["vocab"] if piece not in single] + single
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    scores = {piece: -float(index) for piece, index in vocabulary.items()}
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
    "electra": lambda variant: wordpiece(True),
    "xlmr": lambda variant: unigram(variant != "other"),
    "roberta": lambda variant: byte_bpe(True),
    "modernbert": lambda variant: byte_bpe(False),
    "mmbert": lambda variant: sentencepiece_bpe(),
    "deberta": lambda variant: deberta_unigram(),
    # SentencePiece under [CLS] and [SEP], as DeBERTa's.
    "albert": lambda variant: deberta_unigram(),
    "rembert": lambda variant: deberta_unigram(),
    "eurobert": lambda variant: byte_bpe(False),
    "xlmr_xl": lambda variant: unigram(True),
}


# Models


def make_config(family: str, tokenizer: PreTrainedTokenizerFast, layers: int) -> PreTrainedConfig:
    """Return the configuration of a small model of a family."""
    name, _, variant = family.partition("-")
    shape = {"vocab_size": len(tokenizer) + (13 if variant == "padded" else 0)}
    shape["tie_word_embeddings"] = variant not in ("untied", "v3")
    if name == "distilbert":
        return DistilBertConfig(
            dim=16, n_layers=layers, n_heads=2, hidden_dim=32, max_position_embeddings=128, **shape
        )
    specials = dict.fromkeys(
        ("xlmr", "xlmr_xl", "roberta", "eurobert", "albert", "rembert"), ("pad", "bos", "eos")
    )
    specials |= dict.fromkeys(("modernbert", "mmbert"), ("pad", "bos", "eos", "cls", "sep"))
    same = {"bos": "cls", "eos": "sep", "cls": "bos", "sep": "eos"}
    for role in specials.get(name, ("pad",)):
        token = getattr(tokenizer, f"{role}_token_id")
        token = getattr(tokenizer, f"{same[role]}_token_id") if token is None else token
        shape[f"{role}_token_id"] = token
    if name in ("electra", "albert"):
        shape["embedding_size"] = 12
    if name == "rembert":
        # Its input and output embeddings are of different widths, and never tied.
        shape |= {"input_embedding_size": 12, "output_embedding_size": 20}
        shape["tie_word_embeddings"] = False
    if name == "eurobert":
        shape |= {"mask_token_id": tokenizer.mask_token_id, "tie_word_embeddings": False}
        # Fewer than its heads, as in the one of 610 M parameters, and more than one.
        shape |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    if name == "deberta":
        # As in mDeBERTa-v3-base, but for the sizes.
        shape |= {"relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm"}
        shape |= {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
        shape |= {"position_biased_input": False, "max_relative_positions": -1}
        shape |= {"legacy": variant != "v3"}
        shape |= {"embedding_size": 12} if variant == "narrow" else {}
    kinds = {"bert": BertConfig, "xlmr": XLMRobertaConfig, "roberta": RobertaConfig}
    kinds |= {"deberta": DebertaV2Config, "modernbert": ModernBertConfig}
    kinds |= {"mmbert": ModernBertConfig, "electra": ElectraConfig, "albert": AlbertConfig}
    kinds |= {"rembert": RemBertConfig, "eurobert": EuroBertConfig, "xlmr_xl": XLMRobertaXLConfig}
    return kinds[name](
        hidden_size=16,
        num_hidden_layers=layers,
        intermediate_size=32,
        max_position_embeddings=131,
        **{"num_attention_heads": 2} | shape,
    )


def make_teacher(
    family: str, folder: Path, dtype: torch.dtype = torch.float32, layers: int = 2
) -> Path:
    """Write a random model of a family with its tokenizer; biases are random too."""
    torch.manual_seed(1)
    name, _, variant = family.partition("-")
    tokenizer = TOKENIZERS[name](variant)
    model = AutoModelForMaskedLM.from_config(make_config(family, tokenizer, layers))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reduce_model(folder, selected, output, sample=None, tasks=()):
    """Reduce a model to ids, given with their reasons; return the findings of the verification."""
    tokens = tokenizer_json.list_tokens(tokenizer_json.read_description(folder))
    vocabulary = output.with_name(f"{output.name}.csv")
    write_vocabulary(vocabulary, selected, tokens)
    options = {"model": str(folder), "vocabulary": vocabulary, "sample": sample, "output": output}
    reduce(ReduceOptions(**options, tasks=tasks))
    return read_json(output / "verification.json") if sample else None


def add_dense(folder, width=16):
    """Put a dense layer after the pooling, as sentence-transformers stores it."""
    modules = read_json(folder / MODULES, list)
    dense = {"idx": 2, "name": "2", "path": "2_Dense"}
    modules.insert(2, dense | {"type": "sentence_transformers.models.Dense"})
    modules[3] |= {"idx": 3, "name": "3"}
    write_json(folder / MODULES, modules)
    (folder / "2_Dense").mkdir()
    said = {"in_features": width, "out_features": 8, "bias": True}
    activation = {"activation_function": "torch.nn.modules.activation.Tanh"}
    write_json(folder / "2_Dense/config.json", said | activation)
    weights = {"linear.weight": torch.randn(8, width), "linear.bias": torch.randn(8)}
    save_file(weights, folder / "2_Dense/model.safetensors", {"format": "pt"})
