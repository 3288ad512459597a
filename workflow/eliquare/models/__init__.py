"""Teachers and students: fetched, pre-trained, conditioned, shaped, initialised."""
