"""Training: models, their losses, the loop, and encoders made of what was trained."""
