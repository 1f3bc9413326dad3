"""What the lessons train on.

Made from a seed: `shapes` (images, captions, questions), `last_noun` (a task that needs word
order), `look_up` (answers that lie near or far), `reading` (passages with questions), `everyday`
(sentences in English and French), `what_happened` (messages to classify). Read from what is
installed: `digits` (real images) and `prose` (English, by way of `docstrings` and `cleaning`), and
from the prose `topics` (passages to classify) and `reference_questions` (a test for search);
`references` (citations to tag).
Tokenizers: `words`, `subwords`. `masking` makes BERT's tasks from text, and `ngrams` are the
baselines of language models.
"""
