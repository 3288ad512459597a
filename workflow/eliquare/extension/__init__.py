"""Vocabulary extension (VocabAmp): new tokens for a language, and distillation across tokenizers."""
