"""Evaluation: what a model is worth as a zero-shot classifier."""
