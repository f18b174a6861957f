"""Tasks, their examples, and the encoding of examples as token ids with roles."""
