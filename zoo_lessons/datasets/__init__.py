"""What the lessons train on.

Made from a seed: `shapes` (images, captions, questions), and on top of it `noisy_captions` and
`episodes`; `sounds` (and their spectrograms); `last_noun` (a task that needs word order), `look_up`
and `long_look_up` (answers that lie near or far), `sequence_tasks` (copying, induction); `reading`
(passages with questions), `everyday` (sentences in English and French), `what_happened` (messages
to classify).

Read from what is installed: `digits` (real images, which `digit_shifts` makes drift) and `prose`
(English, by way of `docstrings` and `cleaning`), and from the prose `topics` (passages to classify)
and `reference_questions` (a test for search); `references` (citations to tag).

Tokenizers: `words`, `subwords`. `masking` makes BERT's tasks from text, and `ngrams` are the
baselines of language models.
"""
