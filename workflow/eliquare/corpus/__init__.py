"""From a dump, texts or a dataset to documents, sequences and counts."""
