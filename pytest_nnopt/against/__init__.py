"""A second revision of the project beside the first: its files, its modules, and the proof that they are its own."""
