"""What pre-training, conditioning and distillation share: data order, batches, the loop."""
