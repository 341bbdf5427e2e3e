"""What text towers can tell apart: tasks about words, each learnt from a few examples of a model's vectors."""
