"""`fistful label`, the whole chain: embed, calibrate, give words."""
