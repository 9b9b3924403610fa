"""Posting rules: what each kind of block or event asks of the books. Pure."""
