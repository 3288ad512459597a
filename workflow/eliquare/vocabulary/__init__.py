"""Which sub-words stay, and the model and tokenizer cut to them."""
