"""What the lessons train on: `shapes` (images, captions, questions) and `words` (a tokenizer)."""
