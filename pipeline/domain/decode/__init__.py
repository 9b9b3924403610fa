"""Decoders: recorded blocks of a chain to effects. Pure."""
