"""Fine-tuning on tasks, and the metrics that score it."""
