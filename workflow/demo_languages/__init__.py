"""Invented languages, and dumps, treebanks and tasks written in them."""
