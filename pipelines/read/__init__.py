"""What a source is, how it is cut into units, and the rows of a unit."""
