"""Masked training on top of transformers' Trainer: data order, loss of a step, checkpoints."""
