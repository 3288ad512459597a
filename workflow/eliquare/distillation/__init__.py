"""Distillation: the script, the objective, its terms, the chunked loss."""
