"""Fine-tune systems on tasks, score them, and benchmark their size and speed."""
