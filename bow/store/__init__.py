"""Files: configurations and identity, manifests, tables, shards and their index."""
