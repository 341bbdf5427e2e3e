"""Models: built, started from others' weights, written, read again, and seen as encoders."""
