"""Words: from captions to vocabularies, balanced bags, and the files that hold them."""
