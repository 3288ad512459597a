"""Select the tokens that stay, reduce model and tokenizer to them, verify and report."""
