"""`fistful demo`: the whole way on drawings."""
