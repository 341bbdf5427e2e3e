"""`fistful words`: words and class names looked up, balancing rules tried on samples."""
