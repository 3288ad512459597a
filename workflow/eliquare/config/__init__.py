"""Settings: the typed configuration, its errors, its schema and its reference."""
