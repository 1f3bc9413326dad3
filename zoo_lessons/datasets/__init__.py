"""What the lessons train on: `shapes` (images, captions, questions), `words` (a tokenizer), and
`last_noun` (a task that needs word order).
"""
