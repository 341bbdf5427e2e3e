"""Data jobs: inputs cut into units, units run on an engine, one shard a unit."""
