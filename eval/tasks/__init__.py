"""What is asked of a model: zero-shot, several labels, retrieval, tagging, nearest neighbours; prompts and classifiers."""
