"""Load, fetch, initialize and pre-train models and tokenizers."""
