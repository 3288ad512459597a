"""Load, fetch, shape and pre-train models and tokenizers."""
