"""Sets that models are evaluated on: what is in them, what their classes are called, their images one by one."""
