"""Vocabulary extension (VocabAmp): new tokens for a language, distillation across tokenizers."""
