"""The course in one table: lessons, the parts they introduce, the models made of them, routes.

Title cards, the zoo map, the README's table and the routes are all written from here, so a fact
about the course stands in one place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lesson:
    """One notebook.

    Attributes:
        number: two digits, "01".
        slug: the notebook's file name without its ending, "01_attention".
        title: what the title card says.
        part: a key of `PARTS`.
        minutes: time to study it, exercises included.
        needs: numbers of the lessons to take first. Only direct needs: theirs are implied.
        question: the one question that the lesson answers.
        goals: endings of "you will be able to ...".
        uses: ids of the components that the lesson introduces.
        models: ids of the models that the lesson builds or uses.
    """

    number: str
    slug: str
    title: str
    part: str
    minutes: int
    needs: tuple[str, ...]
    question: str
    goals: tuple[str, ...]
    uses: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Component:
    """A part that models are made of.

    `elsewhere` names well-known models outside this course that have the part.
    """

    id: str
    name: str
    description: str
    lesson: str
    elsewhere: str = ""


@dataclass(frozen=True)
class Model:
    """A model of the zoo: its paper, the components it is made of, the lesson that opens it up.

    `built` is False for a model that the course loads with its published weights and takes apart,
    but does not write in a lesson of its own.
    """

    id: str
    name: str
    year: int
    paper: str
    description: str
    components: tuple[str, ...]
    lesson: str
    built: bool = True


@dataclass(frozen=True)
class Stop:
    """A lesson on a route, and the minutes to give it there (core sections only if fewer)."""

    lesson: str
    minutes: int


@dataclass(frozen=True)
class Route:
    """A way through the course for one purpose."""

    id: str
    name: str
    purpose: str
    stops: tuple[Stop, ...]

    @property
    def minutes(self) -> int:
        return sum(stop.minutes for stop in self.stops)


@dataclass(frozen=True)
class Term:
    """A glossary entry. `symbol` is a symbol of `NOTATION`, or empty."""

    definition: str
    symbol: str
    lesson: str


@dataclass(frozen=True)
class Symbol:
    """A row of the notation table. `symbol` is LaTeX, to be set between dollar signs."""

    symbol: str
    meaning: str
    code: str
    shape: str


PARTS = {
    "I": "Foundations",
    "II": "The zoo",
    "III": "Efficiency",
    "IV": "Deployment",
}

LESSONS = (
    Lesson(
        "00",
        "00_start_here",
        "Start here",
        "I",
        25,
        (),
        "What does attention look like in a real model, and how does this course work?",
        (
            "explore the attention heads of a real pretrained model on a sentence of your own",
            "choose a route through the course that fits your time and purpose",
            "tell what this computer can run, and what it will skip",
            "work with the exercises, hints, solutions and quizzes",
        ),
        models=("minilm",),
    ),
    Lesson(
        "01",
        "01_attention",
        "Attention",
        "I",
        60,
        ("00",),
        "How can a word look up what it needs from all the other words?",
        (
            "derive attention from a dictionary look-up and write it in four lines",
            "explain why the scores are divided by the square root of d_k, and show what breaks "
            "without it",
            "write padding and causal masks, and say why masking comes before the softmax",
            "predict how time and memory grow with the length of the input",
        ),
        ("scaled_dot_product_attention", "padding_mask", "causal_mask"),
    ),
    Lesson(
        "02",
        "02_multi_head_attention",
        "Multi-head attention",
        "I",
        55,
        ("01",),
        "What do several heads see that one head cannot?",
        (
            "build multi-head attention from a loop over heads to one batched product",
            "explain what the projections and the output matrix change",
            "find heads in a real model that follow a pattern, such as looking one word back",
            "test by ablation and control sentences whether a head does what its picture suggests",
        ),
        ("multi_head_attention",),
        ("minilm",),
    ),
    Lesson(
        "03",
        "03_positional_encodings",
        "Positional encodings",
        "I",
        55,
        ("02",),
        "How does attention, which sees a bag of words, learn their order?",
        (
            "show that attention alone cannot tell one word order from another",
            "derive and write sinusoidal, learned, relative and rotary positions",
            "train a small model with the course's training loop",
            "compare the four on sequences longer than the training set had",
        ),
        (
            "sinusoidal_positions",
            "learned_positions",
            "relative_position_bias",
            "rotary_positions",
        ),
    ),
    Lesson(
        "04",
        "04_transformer",
        "The Transformer",
        "I",
        60,
        ("03",),
        "How do these parts become a machine that translates?",
        (
            "assemble encoder and decoder blocks from attention, feed-forward, residuals and "
            "LayerNorm",
            "tell post-norm from pre-norm, and measure what each does to gradients by depth",
            "train a Transformer with teacher forcing to translate captions into French",
            "read word order out of the cross-attention, and check the reading",
        ),
        ("token_embedding", "feed_forward", "post_norm", "pre_norm", "cross_attention"),
        ("transformer",),
    ),
    Lesson(
        "05",
        "05_training_stability",
        "Training stability",
        "I",
        50,
        ("04",),
        "Why do some runs diverge, and what keeps them on course?",
        (
            "make a run diverge on purpose, and say from its curves why it did",
            "add clipping, warm-up and mixed precision, and tell what each of them contributes",
            "explain what fp16 loses and bf16 keeps, and how loss scaling helps",
            "debug a model that does not learn, one check at a time",
        ),
        models=("transformer",),
    ),
    Lesson(
        "06",
        "06_gpt",
        "GPT: generation",
        "II",
        55,
        ("04",),
        "How does predicting the next word become writing?",
        (
            "turn an encoder into a language model by changing its mask",
            "generate text greedily, by sampling with temperature, top-k and top-p, and by beam "
            "search",
            "write a key-value cache that equals recomputation, and measure what it saves",
            "judge a language model by its perplexity against n-gram baselines",
        ),
        ("language_model_head", "key_value_cache"),
        ("gpt",),
    ),
    Lesson(
        "07",
        "07_bert",
        "BERT: pre-training",
        "II",
        55,
        ("04",),
        "What can a model learn from text with holes in it?",
        (
            "build BERT's input from token, segment and position embeddings",
            "mask 15 % of the tokens by the 80/10/10 rule, and say why the rule is needed",
            "pre-train a small BERT, and judge it against unigram and bigram baselines",
            "account for the 110.1 million parameters of BERT-Base term by term",
        ),
        ("segment_embedding", "class_token", "masked_language_head", "next_sentence_head"),
        ("bert", "minilm"),
    ),
    Lesson(
        "08",
        "08_fine_tuning_bert",
        "Fine-tuning BERT",
        "II",
        60,
        ("07",),
        "How does one pretrained encoder serve many tasks?",
        (
            "fine-tune an encoder for classification, and find out how many labels it takes",
            "answer questions with a start and an end head, unanswerable ones included",
            "tag sequences with a conditional random field, and explain what it forbids",
            "compare each result with the baseline that a careful person would try first",
        ),
        ("classification_head", "span_head", "conditional_random_field"),
        ("bert", "minilm"),
    ),
    Lesson(
        "09",
        "09_vit",
        "ViT: images as words",
        "II",
        55,
        ("04",),
        "Can a model made for sentences see?",
        (
            "cut an image into patches, and show that this equals a convolution with stride",
            "build a Vision Transformer, and train it on handwritten digits",
            "compare the class token with mean pooling",
            "test whether the patches that attention highlights are the ones that matter",
        ),
        ("patch_embedding",),
        ("vit",),
    ),
    Lesson(
        "10",
        "10_vit_relatives",
        "ViT's relatives",
        "II",
        60,
        ("09",),
        "What does locality give back to a Vision Transformer?",
        (
            "explain convolutional projections, shifted windows, soft splits and MobileViT's block",
            "write the shifted window's mask, and show the leak without it",
            "compare the family at an equal parameter budget",
            "measure how cost grows with image size",
        ),
        (
            "convolutional_embedding",
            "convolutional_projection",
            "shifted_windows",
            "patch_merging",
            "soft_split",
            "inverted_residual",
        ),
        ("cvt", "swin", "t2t_vit", "mobilevit"),
    ),
    Lesson(
        "11",
        "11_mae",
        "Masked autoencoders",
        "II",
        45,
        ("09",),
        "What can a model learn from the quarter of an image that is left?",
        (
            "mask, shuffle and restore patches without losing their places",
            "build the asymmetric encoder and decoder",
            "pre-train without labels, then fine-tune with few of them",
            "measure what the masking ratio changes",
        ),
        ("patch_masking",),
        ("mae", "vit"),
    ),
    Lesson(
        "12",
        "12_clip",
        "CLIP",
        "II",
        55,
        ("09",),
        "How can a model name what it was never taught to name?",
        (
            "write the symmetric contrastive loss, first as a loop and then as a matrix",
            "train two towers on images and captions, and classify without training examples",
            "retrieve images by text and text by images",
            "measure where CLIP fails: counting, relations, word order",
        ),
        ("shared_space",),
        ("clip",),
    ),
    Lesson(
        "13",
        "13_blip",
        "BLIP",
        "II",
        60,
        ("06", "07", "12"),
        "Can a model that captions images clean the captions it learns from?",
        (
            "explain which parts BLIP's encoders and its decoder share",
            "train with contrastive, matching and language losses, and measure each",
            "caption images, and answer questions about them",
            "clean a noisy data set with a captioner and a filter, and measure the gain",
        ),
        ("matching_head",),
        ("blip",),
    ),
    Lesson(
        "14",
        "14_flamingo",
        "Flamingo",
        "II",
        55,
        ("06", "12"),
        "How can a frozen language model learn to see?",
        (
            "turn any number of image patches into a fixed number of latents",
            "add gated cross-attention that changes nothing at first, and prove it",
            "mask text so that it sees only its own image",
            "measure few-shot prompting from no example to eight",
        ),
        ("perceiver_resampler", "gated_cross_attention"),
        ("flamingo", "gpt"),
    ),
    Lesson(
        "15",
        "15_efficient_attention",
        "Sparse, hierarchical and linear attention",
        "III",
        60,
        ("04",),
        "Which scores can attention leave out?",
        (
            "write window, global and random attention without building the full matrix",
            "derive linear attention in its parallel and its recurrent form",
            "fit exponents of time and memory against length",
            "tell which tasks pay for the savings",
        ),
        ("window_attention", "global_tokens", "random_blocks", "linear_attention"),
        ("longformer",),
    ),
    Lesson(
        "16",
        "16_state_space_models",
        "State-space models",
        "III",
        55,
        ("15",),
        "Can a recurrence do attention's work at linear cost?",
        (
            "discretise a linear system, and run it as a loop and as a parallel scan",
            "explain what selection adds, and build Mamba",
            "compare constant memory with a growing key-value cache",
            "test attention, Mamba and a hybrid on copying and induction",
        ),
        ("selective_scan", "causal_convolution", "gating"),
        ("mamba",),
    ),
    Lesson(
        "17",
        "17_smaller_models",
        "Smaller models",
        "III",
        60,
        ("08",),
        "How much of a model can go before its quality does?",
        (
            "distil a model by its logits, by its features, and by both",
            "count what sharing layers saves, and what it costs",
            "let easy inputs leave early, and measure the speed-up on real batches",
            "draw the Pareto front of quality against time and size",
        ),
        ("layer_sharing", "factorized_embedding", "early_exit"),
        ("distilbert", "albert", "bert"),
    ),
    Lesson(
        "18",
        "18_better_data",
        "Better data",
        "III",
        60,
        ("08", "09"),
        "When is another example worth more than another layer?",
        (
            "augment text by synonyms and back-translation, and look at the errors they bring",
            "mix images and labels with MixUp and CutMix",
            "train against adversarial examples, and draw robustness curves",
            "judge augmentation with several seeds and intervals",
        ),
        ("adaptive_norm",),
        ("transformer", "minilm", "dit"),
    ),
    Lesson(
        "19",
        "19_quantization",
        "Quantization",
        "IV",
        60,
        ("08", "15"),
        "How few bits does a model need?",
        (
            "quantize by hand: scale, zero point, per tensor and per channel",
            "choose between dynamic, static and weight-only quantization",
            "export a model, and run it in INT8 with ONNX Runtime",
            "measure latency, size and quality together, against a tuned baseline",
        ),
        models=("minilm", "bert", "vit", "longformer"),
    ),
    Lesson(
        "20",
        "20_fusion",
        "Fusion and hardware",
        "IV",
        50,
        ("04",),
        "Why is the fast kernel the one that moves less memory?",
        (
            "measure this machine's roofline, and place operations on it",
            "fuse LayerNorm and GELU by compiler and by hand",
            "build FlashAttention's online softmax in blocks, and show that it equals the formula",
            "recognise what the hardware was designed for by its effect",
        ),
        ("online_softmax",),
        ("vit", "bert"),
    ),
    Lesson(
        "21",
        "21_serving",
        "Serving",
        "IV",
        60,
        ("08", "09"),
        "What stands between a model and its users?",
        (
            "run a service with a router, replicas, dynamic batching and a cache",
            "read a latency-throughput curve, and choose a batching window from it",
            "break the service on purpose, and measure how it recovers",
            "detect drift, and roll a bad canary back",
        ),
        models=("minilm", "vit", "blip"),
    ),
    Lesson(
        "22",
        "22_parallelism",
        "Parallelism",
        "IV",
        50,
        ("04",),
        "How does one model run on several devices?",
        (
            "split a layer by columns and rows so that one all-reduce is enough",
            "cut a model into pipeline stages, and compute the bubble",
            "run a 2 × 2 mesh on four processes, and show that it equals one",
            "plan a large model's memory and communication on paper",
        ),
        models=("vit",),
    ),
    Lesson(
        "23",
        "23_capstone",
        "Capstone",
        "IV",
        60,
        ("17", "19", "21"),
        "Which model would you ship, and how would you defend it?",
        (
            "choose a model, a training and a precision under limits of accuracy, time and size",
            "judge on people never seen, and know what a choice does to its own score",
            "take the choice from training to a file, behind a router, and through drift",
            "decide about a retrained version by evidence",
        ),
        models=("vit", "mae"),
    ),
    Lesson(
        "24",
        "24_report_card",
        "Report card",
        "IV",
        45,
        ("23",),
        "Which of the claims that this course grew from hold?",
        (
            "find for each claim our figure, its device, and the cell that shows it",
            "give a verdict from an interval and from thresholds that were set before",
            "ask of a speed-up its baseline, its control, its size and its summary",
            "name what could not be measured here, and why",
        ),
    ),
)

COMPONENTS = (
    Component(
        "scaled_dot_product_attention",
        "Scaled dot-product attention",
        "Each query takes a weighted mean of the values; the weights come from query-key products.",
        "01",
    ),
    Component(
        "padding_mask",
        "Padding mask",
        "Keeps attention away from the filler that makes sequences in a batch equally long.",
        "01",
    ),
    Component(
        "causal_mask",
        "Causal mask",
        "Lets a position see itself and what came before, never what comes after.",
        "01",
    ),
    Component(
        "multi_head_attention",
        "Multi-head attention",
        "Several attentions side by side, each in its own projection of the input.",
        "02",
    ),
    Component(
        "sinusoidal_positions",
        "Sinusoidal positions",
        "Fixed sines and cosines of many wavelengths, added to the embeddings.",
        "03",
    ),
    Component(
        "learned_positions",
        "Learned positions",
        "One trained vector per position, added to the embeddings.",
        "03",
    ),
    Component(
        "relative_position_bias",
        "Relative position bias",
        "A trained number per distance and head, added to the attention scores.",
        "03",
        elsewhere="T5",
    ),
    Component(
        "rotary_positions",
        "Rotary positions (RoPE)",
        "Queries and keys turn by an angle that grows with their position.",
        "03",
        elsewhere="RoFormer, LLaMA",
    ),
    Component(
        "token_embedding",
        "Token embedding",
        "A trained vector for each token of the vocabulary.",
        "04",
    ),
    Component(
        "feed_forward",
        "Feed-forward network",
        "Two linear layers with an activation between, applied to each position on its own.",
        "04",
    ),
    Component(
        "post_norm",
        "Residual, post-norm",
        "LayerNorm after the residual sum: LN(x + f(x)), as in the first Transformer.",
        "04",
    ),
    Component(
        "pre_norm",
        "Residual, pre-norm",
        "The norm inside the branch: x + f(LN(x)), which leaves the residual path free.",
        "04",
    ),
    Component(
        "cross_attention",
        "Cross-attention",
        "Queries from one sequence, keys and values from another.",
        "04",
    ),
    Component(
        "language_model_head",
        "Language-model head",
        "Scores for the next token, often with the embedding's own weights.",
        "06",
    ),
    Component(
        "key_value_cache",
        "Key-value cache",
        "Keeps the keys and values of past tokens, so that each new token costs one step.",
        "06",
    ),
    Component(
        "segment_embedding",
        "Segment embedding",
        "Tells the first of two sentences from the second.",
        "07",
    ),
    Component(
        "class_token",
        "Class token",
        "An extra first token whose final vector stands for the whole input.",
        "07",
    ),
    Component(
        "masked_language_head",
        "Masked-language head",
        "Predicts the tokens that were hidden.",
        "07",
    ),
    Component(
        "next_sentence_head",
        "Next-sentence head",
        "Predicts whether the second sentence followed the first.",
        "07",
    ),
    Component(
        "classification_head",
        "Classification head",
        "A linear layer from one summary vector to class scores.",
        "08",
    ),
    Component(
        "span_head",
        "Start and end heads",
        "Score each token as the start and as the end of an answer.",
        "08",
    ),
    Component(
        "conditional_random_field",
        "Conditional random field",
        "Scores whole tag sequences, so that illegal ones can be ruled out.",
        "08",
        elsewhere="BiLSTM-CRF, BERT-CRF taggers",
    ),
    Component(
        "patch_embedding",
        "Patch embedding",
        "Cuts an image into squares, and maps each to a token.",
        "09",
    ),
    Component(
        "convolutional_embedding",
        "Convolutional embedding",
        "Overlapping convolutions make the tokens, and shorten the sequence between stages.",
        "10",
    ),
    Component(
        "convolutional_projection",
        "Convolutional projection",
        "Queries, keys and values come from a depthwise convolution over the token map.",
        "10",
    ),
    Component(
        "shifted_windows",
        "Shifted windows",
        "Attention within local windows, which move by half their width in every second block.",
        "10",
    ),
    Component(
        "patch_merging",
        "Patch merging",
        "Joins two-by-two neighbours into one token with more channels.",
        "10",
    ),
    Component(
        "soft_split",
        "Soft split",
        "Re-cuts the token map into overlapping patches, step by step.",
        "10",
    ),
    Component(
        "inverted_residual",
        "Inverted residual",
        "MobileNet's block: widen, convolve each channel, narrow, add.",
        "10",
        elsewhere="MobileNetV2",
    ),
    Component(
        "patch_masking",
        "Patch masking",
        "The encoder sees a quarter of the patches; a small decoder fills in the rest.",
        "11",
    ),
    Component(
        "shared_space",
        "Shared image-text space",
        "Both towers project to unit vectors; a learned temperature scales their products.",
        "12",
    ),
    Component(
        "matching_head",
        "Image-text matching head",
        "Decides from text that has seen the image whether the two belong together.",
        "13",
    ),
    Component(
        "perceiver_resampler",
        "Perceiver resampler",
        "A few learned queries turn any number of image features into a fixed number.",
        "14",
    ),
    Component(
        "gated_cross_attention",
        "Gated cross-attention",
        "Cross-attention behind a tanh gate that starts at zero.",
        "14",
    ),
    Component(
        "window_attention",
        "Window attention",
        "Each token attends to its neighbours only.",
        "15",
    ),
    Component(
        "global_tokens",
        "Global tokens",
        "A few tokens that attend to all, and to which all attend.",
        "15",
    ),
    Component(
        "random_blocks",
        "Random blocks",
        "A few far-away blocks for each query, to shorten paths through the sequence.",
        "15",
        elsewhere="BigBird",
    ),
    Component(
        "linear_attention",
        "Linear attention",
        "A feature map replaces the softmax, so that the sum over keys is taken only once.",
        "15",
        elsewhere="Linear Transformer, Performer",
    ),
    Component(
        "selective_scan",
        "Selective scan",
        "A linear recurrence whose step and gates depend on the input.",
        "16",
    ),
    Component(
        "causal_convolution",
        "Causal depthwise convolution",
        "Mixes each channel over the last few positions.",
        "16",
    ),
    Component(
        "gating",
        "Gating",
        "One branch decides how much of the other passes.",
        "16",
    ),
    Component(
        "layer_sharing",
        "Layer sharing",
        "All layers use the same weights.",
        "17",
    ),
    Component(
        "factorized_embedding",
        "Factorised embedding",
        "A narrow embedding table, widened by one matrix.",
        "17",
    ),
    Component(
        "early_exit",
        "Early exit",
        "A classifier after each layer; easy inputs leave as soon as several agree.",
        "17",
        elsewhere="PABEE, DeeBERT",
    ),
    Component(
        "adaptive_norm",
        "Adaptive LayerNorm",
        "A condition, such as the class and the noise level, sets each norm's scale and shift.",
        "18",
    ),
    Component(
        "online_softmax",
        "Online softmax",
        "Softmax over blocks of keys, with a running maximum and a running sum.",
        "20",
        elsewhere="FlashAttention",
    ),
)

_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention", "feed_forward")
_TEXT_ENCODER = ("token_embedding", "learned_positions", "padding_mask", *_ATTENTION, "post_norm")
_DECODER_ONLY = (
    "token_embedding",
    "learned_positions",
    "causal_mask",
    "padding_mask",
    *_ATTENTION,
    "pre_norm",
    "language_model_head",
    "key_value_cache",
)
_IMAGE_ENCODER = ("patch_embedding", "class_token", "learned_positions", *_ATTENTION, "pre_norm")

MODELS = (
    Model(
        "transformer",
        "Transformer",
        2017,
        "Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762",
        "The encoder-decoder that started it all; here it translates captions into French.",
        (
            "token_embedding",
            "sinusoidal_positions",
            "padding_mask",
            "causal_mask",
            *_ATTENTION,
            "post_norm",
            "cross_attention",
        ),
        "04",
    ),
    Model(
        "minilm",
        "MiniLM",
        2020,
        "Wang et al., MiniLM, 2020, arXiv:2002.10957",
        "A six-layer BERT encoder distilled from a larger one; its real weights come with the "
        "course.",
        (*_TEXT_ENCODER, "segment_embedding"),
        "02",
        built=False,
    ),
    Model(
        "gpt",
        "GPT-2",
        2019,
        "Radford et al., Language Models are Unsupervised Multitask Learners, 2019",
        "A stack of decoder blocks that predicts the next token.",
        _DECODER_ONLY,
        "06",
    ),
    Model(
        "bert",
        "BERT",
        2018,
        "Devlin et al., BERT, 2018, arXiv:1810.04805",
        "An encoder that learns from text with holes, then serves many tasks.",
        (
            *_TEXT_ENCODER,
            "segment_embedding",
            "class_token",
            "masked_language_head",
            "next_sentence_head",
            "classification_head",
            "span_head",
        ),
        "07",
    ),
    Model(
        "vit",
        "ViT",
        2020,
        "Dosovitskiy et al., An Image is Worth 16x16 Words, 2020, arXiv:2010.11929",
        "An encoder that reads an image as a sequence of patches.",
        (*_IMAGE_ENCODER, "classification_head"),
        "09",
    ),
    Model(
        "cvt",
        "CvT",
        2021,
        "Wu et al., CvT: Introducing Convolutions to Vision Transformers, 2021, arXiv:2103.15808",
        "Convolutions make the tokens and the projections; no position embedding is needed.",
        (
            "convolutional_embedding",
            "convolutional_projection",
            "class_token",
            *_ATTENTION,
            "pre_norm",
            "classification_head",
        ),
        "10",
    ),
    Model(
        "swin",
        "Swin Transformer",
        2021,
        "Liu et al., Swin Transformer, 2021, arXiv:2103.14030",
        "Attention in shifted windows over a pyramid of ever fewer tokens.",
        (
            "patch_embedding",
            "shifted_windows",
            "relative_position_bias",
            "patch_merging",
            *_ATTENTION,
            "pre_norm",
            "classification_head",
        ),
        "10",
    ),
    Model(
        "t2t_vit",
        "T2T-ViT",
        2021,
        "Yuan et al., Tokens-to-Token ViT, 2021, arXiv:2101.11986",
        "Soft splits turn an image into tokens step by step, then a narrow ViT reads them.",
        (
            "soft_split",
            "class_token",
            "sinusoidal_positions",
            *_ATTENTION,
            "pre_norm",
            "classification_head",
        ),
        "10",
    ),
    Model(
        "mobilevit",
        "MobileViT",
        2021,
        "Mehta and Rastegari, MobileViT, 2021, arXiv:2110.02178",
        "Convolutions and small Transformers in turn, for phones.",
        ("inverted_residual", *_ATTENTION, "pre_norm", "classification_head"),
        "10",
    ),
    Model(
        "mae",
        "MAE",
        2021,
        "He et al., Masked Autoencoders Are Scalable Vision Learners, 2021, arXiv:2111.06377",
        "A ViT that learns without labels by restoring hidden patches.",
        (
            "patch_embedding",
            "class_token",
            "sinusoidal_positions",
            "patch_masking",
            *_ATTENTION,
            "pre_norm",
        ),
        "11",
    ),
    Model(
        "clip",
        "CLIP",
        2021,
        "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, "
        "2021, arXiv:2103.00020",
        "An image tower and a text tower that meet in one space.",
        (*_IMAGE_ENCODER, "token_embedding", "causal_mask", "padding_mask", "shared_space"),
        "12",
    ),
    Model(
        "blip",
        "BLIP",
        2022,
        "Li et al., BLIP, 2022, arXiv:2201.12086",
        "Sees, matches, captions and answers; cleans the captions it learns from.",
        (
            *_IMAGE_ENCODER,
            "token_embedding",
            "post_norm",
            "padding_mask",
            "causal_mask",
            "cross_attention",
            "shared_space",
            "matching_head",
            "language_model_head",
            "key_value_cache",
        ),
        "13",
    ),
    Model(
        "flamingo",
        "Flamingo",
        2022,
        "Alayrac et al., Flamingo, 2022, arXiv:2204.14198",
        "A frozen language model that sees through gated cross-attention.",
        (*_DECODER_ONLY, "cross_attention", "perceiver_resampler", "gated_cross_attention"),
        "14",
    ),
    Model(
        "longformer",
        "Longformer",
        2020,
        "Beltagy et al., Longformer, 2020, arXiv:2004.05150",
        "A BERT for long documents: local windows and a few global tokens.",
        (*_TEXT_ENCODER, "segment_embedding", "window_attention", "global_tokens"),
        "15",
    ),
    Model(
        "mamba",
        "Mamba",
        2023,
        "Gu and Dao, Mamba, 2023, arXiv:2312.00752",
        "No attention at all: a selective recurrence at linear cost.",
        (
            "token_embedding",
            "pre_norm",
            "causal_convolution",
            "selective_scan",
            "gating",
            "language_model_head",
        ),
        "16",
    ),
    Model(
        "distilbert",
        "DistilBERT",
        2019,
        "Sanh et al., DistilBERT, 2019, arXiv:1910.01108",
        "BERT with half its layers, taught by the whole.",
        (*_TEXT_ENCODER, "class_token"),
        "17",
    ),
    Model(
        "albert",
        "ALBERT",
        2019,
        "Lan et al., ALBERT, 2019, arXiv:1909.11942",
        "BERT with one layer's weights used again and again.",
        (
            *_TEXT_ENCODER,
            "segment_embedding",
            "class_token",
            "layer_sharing",
            "factorized_embedding",
        ),
        "17",
    ),
    Model(
        "dit",
        "DiT",
        2022,
        "Peebles and Xie, Scalable Diffusion Models with Transformers, 2022, arXiv:2212.09748",
        "A ViT that draws: it says which part of a noisy image is noise, again and again.",
        (
            "patch_embedding",
            "sinusoidal_positions",
            *_ATTENTION,
            "pre_norm",
            "adaptive_norm",
        ),
        "18",
    ),
)

ROUTES = (
    Route(
        "complete",
        "Complete",
        "Everything, in order.",
        tuple(Stop(lesson.number, lesson.minutes) for lesson in LESSONS),
    ),
    Route(
        "one_day",
        "One day",
        "From the first dot product to images and text in six hours; core sections only.",
        (
            Stop("00", 20),
            Stop("01", 45),
            Stop("02", 50),
            Stop("03", 45),
            Stop("04", 60),
            Stop("06", 45),
            Stop("09", 45),
            Stop("12", 50),
        ),
    ),
    Route(
        "vision_and_language",
        "I only want ViT and CLIP",
        "The shortest way to images, and to images with text.",
        (
            Stop("00", 15),
            Stop("01", 40),
            Stop("02", 40),
            Stop("03", 35),
            Stop("04", 50),
            Stop("09", 55),
            Stop("12", 55),
        ),
    ),
    Route(
        "deployment",
        "I only want deployment",
        "What to know about a Transformer in order to shrink it, speed it up and serve it.",
        (
            Stop("00", 15),
            Stop("01", 35),
            Stop("02", 35),
            Stop("03", 30),
            Stop("04", 50),
            Stop("07", 40),
            Stop("08", 40),
            Stop("09", 40),
            Stop("15", 45),
            Stop("17", 45),
            Stop("19", 60),
            Stop("20", 50),
            Stop("21", 60),
            Stop("22", 50),
            Stop("23", 60),
        ),
    ),
)

NOTATION = (
    Symbol("B", "sequences or images in a batch", "batch", "number"),
    Symbol("n", "positions in a sequence (tokens or patches)", "length", "number"),
    Symbol(r"d_{\text{model}}", "width: numbers per position between blocks", "d_model", "number"),
    Symbol("h", "attention heads", "num_heads", "number"),
    Symbol("d_k", "width of a query and of a key in one head", "head_dim", "number"),
    Symbol("d_v", "width of a value in one head (equal to $d_k$ here)", "head_dim", "number"),
    Symbol(r"d_{\text{ff}}", "width inside the feed-forward network", "d_ff", "number"),
    Symbol("N", "blocks on top of each other", "num_layers", "number"),
    Symbol("X", "the sequence that enters a layer", "x", "(batch, length, d_model)"),
    Symbol("Q", "queries", "q", "(batch, num_heads, queries, head_dim)"),
    Symbol("K", "keys", "k", "(batch, num_heads, keys, head_dim)"),
    Symbol("V", "values", "v", "(batch, num_heads, keys, head_dim)"),
    Symbol(
        "S", "attention scores before the softmax", "scores", "(batch, num_heads, queries, keys)"
    ),
    Symbol(
        "A", "attention weights; each row sums to 1", "weights", "(batch, num_heads, queries, keys)"
    ),
    Symbol("M", "mask: True where attention is allowed", "mask", "(queries, keys), broadcast"),
    Symbol(
        r"W^Q, W^K, W^V", "projections to queries, keys and values", "qkv", "(d_model, d_model)"
    ),
    Symbol("W^O", "output projection after the heads are joined", "out", "(d_model, d_model)"),
    Symbol(r"\mathrm{pos}", "position in the sequence, from 0", "position", "number"),
    Symbol(r"\theta_i", "rotary angle per position of the i-th pair", "theta", "(head_dim / 2,)"),
    Symbol(r"\eta", "learning rate", "lr", "number"),
    Symbol(r"\tau", "temperature that divides scores", "temperature", "number"),
    Symbol(r"\mathcal{L}", "loss", "loss", "number"),
)

GLOSSARY = {
    "1F1B": Term(
        "A pipeline's schedule of one forward and one backward in turns; it keeps few activations.",
        "",
        "22",
    ),
    "ablation": Term(
        "Removing a part, such as one head, to see whether the result depends on it.", "", "02"
    ),
    "adversarial example": Term(
        "An input changed so little that we hardly see it, so that a model errs.",
        "",
        "18",
    ),
    "all-reduce": Term(
        "Sums a tensor over all ranks, and gives the sum to each.",
        "",
        "22",
    ),
    "arithmetic intensity": Term(
        "Floating-point operations for each byte that is moved.",
        "",
        "20",
    ),
    "attention map": Term(
        "The attention weights of one head, drawn as a picture: a row per query, a column per key.",
        "A",
        "01",
    ),
    "attention rollout": Term(
        "A guess at what reaches a token from each input token: all layers' maps multiplied.",
        "",
        "09",
    ),
    "augmentation": Term(
        "Making new training examples from old ones, with the same label.",
        "",
        "18",
    ),
    "back-pressure": Term(
        "Refusing work early, in place of a queue without bound.",
        "",
        "21",
    ),
    "back-translation": Term(
        "A paraphrase by way of another language.",
        "",
        "18",
    ),
    "batch": Term("Several examples that are computed together.", "B", "01"),
    "batching window": Term(
        "The longest time that a request waits for others to share its batch.",
        "",
        "21",
    ),
    "beam search": Term(
        "Generation that keeps the few likeliest unfinished texts, and extends each at every step.",
        "",
        "06",
    ),
    "bigram": Term(
        "A pair of neighbouring tokens; a bigram model predicts a token from the one before it.",
        "",
        "06",
    ),
    "BIO tags": Term(
        "B- opens an entity, I- continues it, O is outside: how spans become one tag per word.",
        "",
        "08",
    ),
    "bubble": Term(
        "The share of time in which a pipeline's stages wait for each other.",
        "",
        "22",
    ),
    "byte-pair encoding": Term(
        "Builds a vocabulary by joining the most frequent pair of neighbours, again and again.",
        "",
        "06",
    ),
    "calibration": Term(
        "Fixing the range of a layer's inputs on examples, before the model is used.",
        "",
        "19",
    ),
    "canary": Term(
        "A new version that a few users meet first.",
        "",
        "21",
    ),
    "CapFilt": Term(
        "BLIP's cleaning of captions: a captioner writes new ones, a filter drops mismatches.",
        "",
        "13",
    ),
    "causal mask": Term(
        "A mask that hides all later positions, so that a model cannot copy its answer.", "M", "01"
    ),
    "chrF": Term(
        "A score of translations: the F-score of the runs of letters that both texts share.",
        "",
        "18",
    ),
    "class token": Term(
        "An extra first token, [CLS], whose final vector stands for the whole input.", "", "07"
    ),
    "classifier-free guidance": Term(
        "Makes what the label changes in a diffusion model's prediction larger.",
        "",
        "18",
    ),
    "conditional random field": Term(
        "A model of whole tag sequences: it scores each tag and each step from tag to tag.",
        "",
        "08",
    ),
    "contrastive loss": Term(
        "Pulls matching pairs together and pushes all other pairs of the batch apart.",
        "",
        "12",
    ),
    "convolutional stem": Term(
        "Small convolutions that make an image's tokens, in place of one large projection.",
        "",
        "12",
    ),
    "coordinated omission": Term(
        "A load test that stops sending while the service stalls, and so hides the stall.",
        "",
        "21",
    ),
    "cross-attention": Term(
        "Attention whose queries come from one sequence, and whose keys and values come from "
        "another.",
        "",
        "04",
    ),
    "cross-validation by groups": Term(
        "Judging several times, on other groups each time, of which the model has seen nothing.",
        "",
        "23",
    ),
    "CUDA graph": Term(
        "Many launches of kernels on a GPU, recorded once and repeated as one.",
        "",
        "20",
    ),
    "data parallelism": Term(
        "Copies of a model see different examples and average their gradients.",
        "",
        "22",
    ),
    "decoder": Term(
        "The part that writes the output one token at a time, seeing only what it wrote.", "", "04"
    ),
    "depthwise convolution": Term(
        "A convolution that filters each channel on its own: few weights, and no channels mixed.",
        "",
        "10",
    ),
    "diffusion model": Term(
        "Learns to find the noise in a noisy image; draws by taking noise out step by step.",
        "",
        "18",
    ),
    "discriminator": Term(
        "Scores how real an example looks.",
        "",
        "18",
    ),
    "distillation": Term(
        "Training a small model, the student, to answer as a large one, the teacher, does.",
        "",
        "17",
    ),
    "drift": Term(
        "Inputs that differ from those a model was tested on.",
        "",
        "21",
    ),
    "dynamic quantization": Term(
        "Integers for weights and inputs; an input's range is measured at each call.",
        "",
        "19",
    ),
    "embedding": Term("The trained vector that stands for a token or a patch.", "X", "04"),
    "encoder": Term("The part that reads the whole input at once.", "", "04"),
    "exact match": Term("The share of answers that equal the expected one entirely.", "", "04"),
    "false negative": Term(
        "A pair that the contrastive loss pushes apart although it matches: equal captions, say.",
        "",
        "12",
    ),
    "few-shot prompting": Term(
        "Showing a trained model some solved examples in its input, without updating it.",
        "",
        "14",
    ),
    "fine-tuning": Term("Training a pretrained model further on the task at hand.", "", "08"),
    "fingerprint": Term(
        "A hash over the bytes of all weights; equal if nothing has changed.",
        "",
        "14",
    ),
    "FlashAttention": Term(
        "Exact attention in blocks, which never holds all scores.",
        "",
        "20",
    ),
    "frozen": Term("Not updated by training.", "", "08"),
    "GAN": Term(
        "A generator of examples, trained against a discriminator.",
        "",
        "18",
    ),
    "gated cross-attention": Term(
        "Cross-attention behind a gate that starts at zero: at first nothing changes.",
        "",
        "14",
    ),
    "global token": Term(
        "A token that attends to all positions and that all positions attend to.",
        "",
        "15",
    ),
    "gradient clipping": Term(
        "Shrinking the gradient when its norm exceeds a limit, and leaving its direction.", "", "05"
    ),
    "greedy decoding": Term("Generation that takes the likeliest token at every step.", "", "04"),
    "hard negative": Term(
        "A wrong pair that looks nearly right; the loss learns most from it.",
        "",
        "12",
    ),
    "head": Term("One of several attentions that run side by side.", "h", "02"),
    "hybrid": Term(
        "A model with layers of two kinds, such as Mamba's and attention.",
        "",
        "16",
    ),
    "image-grounded decoder": Term(
        "A causal text model that looks at an image by cross-attention and writes about it.",
        "",
        "13",
    ),
    "image-grounded encoder": Term(
        "A text model that reads both ways and looks at an image by cross-attention.",
        "",
        "13",
    ),
    "image-text contrast (ITC)": Term(
        "The contrastive loss between whole images and whole texts.",
        "",
        "13",
    ),
    "image-text matching (ITM)": Term(
        "Deciding whether a text matches an image, with the text attending to the image.",
        "",
        "13",
    ),
    "induction": Term(
        "Saying what followed the same token the last time.",
        "",
        "16",
    ),
    "inductive bias": Term(
        "What a model takes for granted before it sees data: near pixels belong together, say.",
        "",
        "09",
    ),
    "interleaved": Term(
        "Of images and text: in one sequence, each image at its place.",
        "",
        "14",
    ),
    "kernel": Term(
        "One operation that reads from memory, computes, and writes back.",
        "",
        "20",
    ),
    "key": Term("What a position offers to be found by.", "K", "01"),
    "key-value cache": Term(
        "The stored keys and values of earlier tokens, so that they are not computed again.",
        "",
        "06",
    ),
    "latents": Term(
        "Learned vectors that query the input and carry away a summary of fixed size.",
        "",
        "14",
    ),
    "LayerNorm": Term(
        "Brings each position's vector to mean 0 and variance 1, then scales and shifts it.",
        "",
        "04",
    ),
    "leak": Term(
        "Something of the held-out data that got into training.",
        "",
        "18",
    ),
    "learning rate": Term("The size of a training step.", r"\eta", "03"),
    "linear attention": Term(
        "Attention with features in place of the softmax, whose sums can be shared by all queries.",
        "",
        "15",
    ),
    "linear probe": Term(
        "A linear classifier on the frozen features of a model: it shows what the features hold.",
        "",
        "11",
    ),
    "logits": Term("Scores before the softmax turns them into probabilities.", "", "01"),
    "loss scaling": Term(
        "Multiplying the loss so that small fp16 gradients do not become zero, and dividing "
        "afterwards.",
        "",
        "05",
    ),
    "LTI system": Term(
        "Linear and time-invariant: the same linear recurrence for every token.",
        "",
        "16",
    ),
    "mask": Term("Says which positions attention may look at.", "M", "01"),
    "masked language model": Term(
        "A model that learns to fill in tokens that were hidden from it.", "", "07"
    ),
    "masking ratio": Term("The share of patches that a masked autoencoder hides.", "", "11"),
    "mesh": Term(
        "Ranks laid out in a grid, with one kind of parallelism along each axis.",
        "",
        "22",
    ),
    "micro-batch": Term(
        "A part of a batch that passes through a pipeline by itself.",
        "",
        "22",
    ),
    "mixed precision": Term(
        "Computing in 16 bits where that is safe, and in 32 bits where it is not.", "", "05"
    ),
    "modality": Term(
        "A kind of input: text, image, sound.",
        "",
        "14",
    ),
    "momentum distillation": Term(
        "Learning from a slow moving average of the model itself, beside the labels.",
        "",
        "13",
    ),
    "next-sentence prediction": Term(
        "Deciding whether the second text followed the first one.", "", "07"
    ),
    "open loop": Term(
        "A load whose requests are sent at times fixed beforehand, whatever the answers do.",
        "",
        "21",
    ),
    "operator fusion": Term(
        "Several steps in one kernel, so that what lies between them never meets memory.",
        "",
        "20",
    ),
    "outlier channel": Term(
        "A channel whose numbers are many times as large as the others'.",
        "",
        "19",
    ),
    "p99": Term(
        "The time within which 99 of 100 requests were answered.",
        "",
        "21",
    ),
    "padding": Term("Filler that makes the sequences of a batch equally long.", "", "01"),
    "Pareto front": Term(
        "The choices that no other one beats in both quality and cost.",
        "",
        "17",
    ),
    "parity": Term(
        "Our model and the reference give the same numbers from the same weights.", "", "02"
    ),
    "patch": Term("A small square of an image, treated as a token.", "", "09"),
    "patience": Term(
        "How many classifiers in a row must agree before an example leaves early.",
        "",
        "17",
    ),
    "perplexity": Term(
        "The exponential of the mean loss per token: how many choices the model hesitates between.",
        "",
        "06",
    ),
    "pipeline parallelism": Term(
        "Each rank holds some of the layers, a stage.",
        "",
        "22",
    ),
    "positional encoding": Term(
        "What tells a model where in the sequence a token stands.", r"\mathrm{pos}", "03"
    ),
    "post-norm": Term("LayerNorm after the residual sum: LN(x + f(x)).", "", "04"),
    "pre-norm": Term("LayerNorm inside the branch: x + f(LN(x)).", "", "04"),
    "pre-training": Term(
        "Training on plentiful unlabelled data before the task is known.", "", "07"
    ),
    "prompt ensemble": Term(
        "The mean of a class's text vectors over several wordings.",
        "",
        "12",
    ),
    "query": Term("What a position is looking for.", "Q", "01"),
    "rank": Term(
        "The number of a process in a group that works together.",
        "",
        "22",
    ),
    "recall@k": Term(
        "The share of searches whose right answer is among the first k found.",
        "",
        "12",
    ),
    "receptive field": Term(
        "The part of the input that a token or a feature can depend on.", "", "10"
    ),
    "resampler": Term(
        "Turns any number of image tokens into a fixed number of latents.",
        "",
        "14",
    ),
    "residual connection": Term(
        "The input of a layer is added to its output, so that gradients have a free path.", "", "04"
    ),
    "roofline": Term(
        "The speed that a machine allows: the lower of what arithmetic and memory allow.",
        "",
        "20",
    ),
    "saturation": Term(
        "The softmax puts nearly all weight on one score, and its gradient dies.", "", "01"
    ),
    "scale": Term(
        "The distance between two points of a quantization grid.",
        "",
        "19",
    ),
    "scan": Term(
        "All states of a recurrence, computed in a loop or as a tree.",
        "",
        "16",
    ),
    "score": Term(
        "The product of a query with a key, divided by the root of the width.", "S", "01"
    ),
    "segment": Term("The first or the second of the two texts in one input.", "", "07"),
    "selection": Term(
        "A recurrence whose step length, input and output depend on the token.",
        "",
        "16",
    ),
    "self-attention": Term(
        "Attention whose queries, keys and values come from the same sequence.", "", "01"
    ),
    "shifted window": Term(
        "A window of attention moved by half its size, so that neighbours across a border meet.",
        "",
        "10",
    ),
    "sliding window": Term(
        "Attention to the nearest positions only, so that cost grows with length, not its square.",
        "",
        "15",
    ),
    "soft split": Term("Cutting an image or a grid of tokens into overlapping squares.", "", "10"),
    "soft target": Term(
        "A teacher's probabilities, softened by a temperature, in place of a label.",
        "",
        "17",
    ),
    "softmax": Term(
        "Turns scores into positive weights that sum to 1; larger scores get larger weights.",
        "",
        "01",
    ),
    "span": Term("A run of neighbouring tokens, given by its start and its end.", "", "08"),
    "state-space model": Term(
        "A linear recurrence that comes from an equation in continuous time.",
        "",
        "16",
    ),
    "static quantization": Term(
        "Integers for weights and inputs; an input's range is fixed by calibration.",
        "",
        "19",
    ),
    "straight-through estimator": Term(
        "Rounds on the way forward; lets the gradient pass as if it had not.",
        "",
        "19",
    ),
    "teacher forcing": Term(
        "In training, the decoder sees the true earlier tokens, not those it predicted.", "", "04"
    ),
    "temperature": Term(
        "A number that divides scores: below 1 sharpens the softmax, above 1 flattens it.",
        r"\tau",
        "01",
    ),
    "tensor parallelism": Term(
        "Each rank holds a part of each matrix.",
        "",
        "22",
    ),
    "token": Term("A piece of the input: a word, a part of a word, or a patch.", "", "00"),
    "top-k sampling": Term("Drawing the next token from the k likeliest only.", "", "06"),
    "top-p sampling": Term(
        "Drawing the next token from the fewest likeliest tokens whose probabilities reach p.",
        "",
        "06",
    ),
    "Triton": Term(
        "A language for kernels that work on blocks of numbers.",
        "",
        "20",
    ),
    "value": Term("What a position hands over when it is attended to.", "V", "01"),
    "Viterbi algorithm": Term("Finds the best tag sequence without trying all of them.", "", "08"),
    "warm-up": Term("Letting the learning rate grow over the first steps.", r"\eta", "05"),
    "weight-only quantization": Term(
        "Integers for the weights alone; inputs stay floats.",
        "",
        "19",
    ),
    "weights (attention)": Term(
        "The softmax of the scores: how much each value counts for a query.", "A", "01"
    ),
    "winner's curse": Term(
        "What was best by a measurement owes part of its score to luck.",
        "",
        "23",
    ),
    "WordPiece": Term(
        "A vocabulary of words and parts of words; a part that continues a word begins with ##.",
        "",
        "07",
    ),
    "zero point": Term(
        "The integer that stands for 0 on a quantization grid.",
        "",
        "19",
    ),
    "zero-order hold": Term(
        "The discretisation that is exact for an input held constant during each step.",
        "",
        "16",
    ),
    "zero-shot": Term(
        "Solving a task without training on any example of it.",
        "",
        "12",
    ),
}


def _find(kind: str, entries: tuple, key: str, attribute: str):
    for entry in entries:
        if getattr(entry, attribute) == key:
            return entry
    known = ", ".join(getattr(entry, attribute) for entry in entries)
    raise KeyError(f"no {kind} {key!r}; there are: {known}")


def lesson(number: str) -> Lesson:
    """The lesson with this two-digit number. KeyError lists the numbers that exist."""
    return _find("lesson", LESSONS, number, "number")


def component(id: str) -> Component:
    """The component with this id. KeyError lists the ids that exist."""
    return _find("component", COMPONENTS, id, "id")


def model(id: str) -> Model:
    """The model with this id. KeyError lists the ids that exist."""
    return _find("model", MODELS, id, "id")
