"""Tiny models of each architecture in float64, and batches, for tests of objectives."""

import torch
import transformers

VOCABULARY = 60
SHAPE = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
BERT = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
}
DISTILBERT = {"n_layers": 2, "dim": 16, "hidden_dim": 24, "n_heads": 2}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "legacy": True}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SHAPE, **BERT),
    "distilbert": lambda: transformers.DistilBertConfig(**SHAPE, **DISTILBERT),
    "electra": lambda: transformers.ElectraConfig(**SHAPE, **BERT, embedding_size=12),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SHAPE, **BERT),
    "roberta": lambda: transformers.RobertaConfig(**SHAPE, **BERT),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SHAPE, **BERT, cls_token_id=2, sep_token_id=3
    ),
    "deberta-v2": lambda: transformers.DebertaV2Config(**SHAPE, **BERT, **DEBERTA),
}


def make(kind="bert", seed=0, **changes):
    """A model with random weights, no dropout at work."""
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    model = transformers.AutoModelForMaskedLM.from_config(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def make_batch(lengths=(9, 5, 3), masked=((1, 4, 7), (2,), ()), width=None, seed=3):
    """Sequences of random ids; ``masked`` names the positions with a label in each."""
    generator = torch.Generator().manual_seed(seed)
    shape = len(lengths), width or max(lengths)
    batch = {
        "input_ids": torch.full(shape, 1),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
        "labels": torch.full(shape, -100),
    }
    for row, (length, places) in enumerate(zip(lengths, masked, strict=True)):
        batch["input_ids"][row, :length] = torch.randint(
            4, VOCABULARY, (length,), generator=generator
        )
        batch["attention_mask"][row, :length] = 1
        labels = torch.randint(4, VOCABULARY, (length,), generator=generator)
        for place in places:
            batch["labels"][row, place] = labels[place]
    with_label, real = batch["labels"].flatten() != -100, batch["attention_mask"].flatten() == 1
    batch["masked"] = with_label.nonzero().squeeze(-1)
    batch["unmasked"] = (real & ~with_label).nonzero().squeeze(-1)
    return batch
