"""Our three BLIP models against transformers' own, and what they write against its generate()."""

import copy

import pytest
import safetensors.torch
import torch
import transformers

from tests.parity.honest import assert_inputs_matter, assert_same, randomise, relative_difference
from zoo_lessons import models
from zoo_lessons.image_text_losses import caption_loss
from zoo_lessons.layers import record_attention
from zoo_lessons.layers.attention import AttentionMaps
from zoo_lessons.models import BlipConfig
from zoo_lessons.weights import from_transformers, load_pretrained

PAD, BOS, SEP = 3, 60, 5
CAPTION, MATCH, ANSWER = (
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForQuestionAnswering",
)
FIELDS = {
    CAPTION: ["logits", "image_embeds", "loss"],
    MATCH: ["itm_score", "question_embeds", "last_hidden_state"],
    ANSWER: ["image_embeds", "loss"],
}
all_models = pytest.mark.parametrize("name", list(FIELDS))


def config(name, sep=SEP):
    text = {
        "vocab_size": 61,
        # Question answering looks from the decoder at the encoder: both are as wide as the image.
        "hidden_size": 32 if name == ANSWER else 24,
        "intermediate_size": 44,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "hidden_act": "silu",
        "layer_norm_eps": 1e-4,
        "bos_token_id": BOS,
        "pad_token_id": PAD,
        "sep_token_id": sep,
        "eos_token_id": 7,
        "label_smoothing": 0.1,
        "attn_implementation": "eager",
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "image_size": 20,
        "patch_size": 5,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-3,
    }
    return transformers.BlipConfig(
        text_config=text, vision_config=vision, image_text_hidden_size=10
    )


def reference(name, dtype=torch.float64, seed=0):
    """Theirs, with random weights, hiding what should be hidden (see `hide_padding`)."""
    model = getattr(transformers, name)(copy.deepcopy(config(name)))
    return hide_padding(randomise(model, seed, scale=0.3).to(dtype))


def hide_padding(model):
    """Make their cross-attention use its mask, as the published code does.

    Theirs computes the mask, hands it to cross-attention under the wrong name, and loses it there:
    `test_theirs_looks_at_padding`. Only answering questions has padding to look at.
    """

    def rename(_module, args, options):
        return args, {**options, "encoder_attention_mask": options["attention_mask"]}

    for name, module in model.named_modules():
        if name.endswith("crossattention.self"):
            module.register_forward_pre_hook(rename, with_kwargs=True)
    return model


def writer(name, sep=SEP):
    """Theirs with weights under which different images get different and varied words."""
    model = getattr(transformers, name)(copy.deepcopy(config(name, sep))).double()
    seed, scale, biases = (2, 0.6, 0.1) if name == ANSWER else (0, 1.0, 0.3)
    randomise(model, seed, scale)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.mul_(biases)
    return model


def images(dtype=torch.float64, height=20, width=20):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 3, height, width, generator=generator, dtype=torch.float64).to(dtype)


def inputs(name, dtype=torch.float64, padded=True):
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(8, 60, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, 7:] = mask[2, 4:] = 0
    batch = {"pixel_values": images(dtype), "input_ids": ids, "attention_mask": mask}
    if name == CAPTION:
        batch["labels"] = ids.masked_fill(mask == 0, -100)
    if name == ANSWER:
        answer = torch.randint(8, 60, (3, 6), generator=generator)
        answer_mask = torch.ones_like(answer)
        answer_mask[1, 4:] = 0
        batch["decoder_input_ids"], batch["decoder_attention_mask"] = answer, answer_mask
        batch["labels"] = answer.masked_fill(answer_mask == 0, -100)
    return batch


@all_models
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_same_output(name, dtype, bound, padded):
    theirs = reference(name, dtype)
    ours, batch = from_transformers(theirs), inputs(name, dtype, padded)
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert_same(a, b, FIELDS[name], bound, rows=batch["attention_mask"].bool())


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_same_cosines(dtype, bound):
    theirs = reference(MATCH, dtype)
    ours, batch = from_transformers(theirs), inputs(MATCH, dtype)
    batch["pixel_values"] = batch["pixel_values"][:2]  # every image with every text
    with torch.no_grad():
        a, b = ours(**batch, use_itm_head=False), theirs(**batch, use_itm_head=False)
    assert a.itm_score.shape == (2, 3)
    assert_same(a, b, FIELDS[MATCH], bound, rows=batch["attention_mask"].bool())


def test_same_answer_logits():
    """Their question answering returns no logits: a hook reads them off its decoder."""
    theirs, seen = reference(ANSWER), []
    theirs.text_decoder.register_forward_hook(lambda _m, _i, output: seen.append(output.logits))
    ours, batch = from_transformers(theirs), inputs(ANSWER)
    rows = batch["decoder_attention_mask"].bool()
    with torch.no_grad():
        found, _ = ours(**batch).logits, theirs(**batch)
    assert relative_difference(found[rows], seen[0][rows]) <= 1e-9


def test_another_image_size():
    for name in FIELDS:
        theirs = reference(name)
        ours, batch = from_transformers(theirs), inputs(name)
        batch |= {"pixel_values": images(height=30, width=15), "interpolate_pos_encoding": True}
        with torch.no_grad():
            rows = batch["attention_mask"].bool()
            assert_same(ours(**batch), theirs(**batch), FIELDS[name], 1e-9, rows=rows)


@pytest.mark.parametrize("name", [CAPTION, ANSWER])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_same_loss(name, reduction, smoothing):
    theirs, batch = reference(name), inputs(name)
    theirs.text_decoder.label_smoothing = smoothing
    ids = batch["labels"].clamp(min=0)
    memory = torch.randn(3, 4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    ours = from_transformers(theirs).text_decoder
    with torch.no_grad():
        found = caption_loss(
            ours(ids, None, memory),
            batch["labels"],
            label_smoothing=smoothing,
            reduction=reduction,
        )
        expected = theirs.text_decoder(
            ids, encoder_hidden_states=memory, labels=batch["labels"], reduction=reduction
        ).loss
    assert found.shape == (() if reduction == "mean" else (3,))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@all_models
def test_inputs_matter(name):
    ours, batch = from_transformers(reference(name)), inputs(name)
    changed = {
        "pixel_values": batch["pixel_values"].flip(-1),
        "input_ids": (batch["input_ids"] + 1) % 60,
        "attention_mask": torch.ones_like(batch["attention_mask"]),
    }
    if name == ANSWER:
        changed["decoder_input_ids"] = (batch["decoder_input_ids"] + 1) % 60
        changed["decoder_attention_mask"] = torch.ones_like(batch["decoder_attention_mask"])
    field = FIELDS[name][0] if name != ANSWER else "logits"
    with torch.no_grad():
        assert_inputs_matter(lambda **x: getattr(ours(**x), field), batch, changed)


@all_models
def test_same_gradient(name):
    theirs = reference(name)
    ours, batch = from_transformers(theirs), inputs(name)
    real = batch["attention_mask"].bool()
    for model in (ours, theirs):
        output = model(**batch)
        if name == MATCH:
            cosines = model(**batch, use_itm_head=False).itm_score
            kept = output.question_embeds[real].square().sum()
            (output.itm_score.square().sum() + cosines.square().sum() + kept).backward()
        else:
            output.loss.backward()
    expected = {key: p.grad for key, p in theirs.named_parameters()}
    graded = copy.deepcopy(theirs)  # the gradients under the weights' names, to rename them alike
    with torch.no_grad():
        for key, parameter in graded.named_parameters():
            parameter.copy_(expected[key])
    wanted = dict(from_transformers(graded).named_parameters())
    for key, parameter in ours.named_parameters():
        if key.endswith("kv.bias") or key.endswith("qkv.bias"):
            # A constant on every key changes no weight of a softmax: its gradient is rounding.
            keep = parameter.grad.abs() > 1e-12
            keep[: len(keep) // 2] &= key.endswith("qkv.bias")
            assert relative_difference(parameter.grad[keep], wanted[key][keep]) <= 1e-9, key
        else:
            assert parameter.grad.abs().max() > 0, key
            assert relative_difference(parameter.grad, wanted[key]) <= 1e-9, key


@all_models
def test_same_attention_maps(name):
    theirs = reference(name)
    theirs.set_attn_implementation("eager")
    ours, batch = from_transformers(theirs), inputs(name)
    decoder = theirs.text_encoder if name == MATCH else theirs.text_decoder
    seen, hooks = [], []
    for layer in (decoder if name == MATCH else decoder.bert).encoder.layer:
        for part in (layer.attention, layer.crossattention):
            hooks.append(part.register_forward_hook(lambda _m, _i, output: seen.append(output[1])))
    vision = []
    for layer in theirs.vision_model.encoder.layers:
        hooks.append(
            layer.self_attn.register_forward_hook(lambda _m, _i, output: vision.append(output[1]))
        )
    with torch.no_grad(), record_attention(ours) as maps:
        ours(**batch)
    with torch.no_grad():
        theirs(**batch)
    part = "text_encoder." if name == MATCH else "text_decoder."
    own, cross = torch.stack(seen[0::2]), torch.stack(seen[1::2])
    mine = AttentionMaps(m for m in maps if m.name.startswith(part))
    assert relative_difference(mine.stack("self_attention"), own) <= 1e-9
    assert relative_difference(mine.stack("cross_attention"), cross) <= 1e-9
    assert relative_difference(maps.stack("vision_model"), torch.stack(vision)) <= 1e-9


@all_models
@pytest.mark.parametrize("seed", [1, 2])
def test_saved_file(name, seed, tmp_path):
    theirs = reference(name, torch.float32, seed)
    theirs.save_pretrained(tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert "text_decoder.cls.predictions.decoder.weight" not in stored  # tied
    if seed == 2:  # the published files hold position ids, and the output layer once more
        for part in ("text_encoder.embeddings", "text_decoder.bert.embeddings"):
            word = stored.get(f"{part}.word_embeddings.weight")
            if word is not None:
                stored[f"{part}.position_ids"] = torch.arange(40)[None]
                if "decoder" in part:
                    stored["text_decoder.cls.predictions.decoder.weight"] = word.clone()
        safetensors.torch.save_file(stored, tmp_path / "model.safetensors")
    ours, batch = load_pretrained(tmp_path), inputs(name, torch.float32)
    assert type(ours) is getattr(models, name) and not ours.training
    with torch.no_grad():
        a, b = ours(**batch), theirs(**batch)
    assert_same(a, b, FIELDS[name], 2e-5, rows=batch["attention_mask"].bool())


def test_published_sizes():
    """Those of blip-image-captioning-base, blip-itm-base and blip-vqa-base."""
    counts = {CAPTION: 223_971_644, MATCH: 223_744_258, ANSWER: 361_230_140}
    with torch.device("meta"):
        default = transformers.BlipConfig()
        default.text_config.num_attention_heads = 12  # in the published files; adds no parameter
        default.text_config.label_smoothing = 0.1
        assert BlipConfig.from_hf(default) == BlipConfig.base()
        for name, count in counts.items():
            theirs = getattr(transformers, name)(default).num_parameters()
            ours = getattr(models, name)(BlipConfig.base())
            assert sum(p.numel() for p in ours.parameters()) == theirs == count, name


# --- generation ---


def written(model, **options):
    return model.generate(images(), **options)


@pytest.fixture(scope="module", params=[SEP, 39, 35], ids=["rare", "some", "frequent"])
def captioners(request):
    theirs = writer(CAPTION, sep=request.param)
    return from_transformers(theirs), theirs


@pytest.mark.parametrize("num_beams", [1, 2, 5])
def test_captions_as_in_transformers(captioners, num_beams):
    ours, theirs = captioners
    many = torch.randn(
        9, 3, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    options = {"num_beams": num_beams, "max_new_tokens": 14}
    found, expected = ours.generate(many, **options), theirs.generate(many, **options)
    assert torch.equal(found, expected)
    assert len({tuple(row) for row in found.tolist()}) > 4  # the image decides
    if theirs.config.text_config.sep_token_id == SEP and num_beams == 1:
        assert len(found.unique()) > 10


def prompts(padded):
    """As a tokenizer makes them for transformers, [CLS] ... [SEP]; padded on the left."""
    ids = torch.randint(8, 40, (3, 6), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :2] = mask[2, :4] = 0
    return ids, mask


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_prompts_as_in_transformers(captioners, num_beams, padded):
    ours, theirs = captioners
    ids, mask = prompts(padded)
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    if padded:  # theirs would put [DEC] over the padding: put it where each text starts
        ids[torch.arange(3), mask.argmax(dim=1)] = BOS
    expected = written(theirs, input_ids=ids.clone(), attention_mask=mask, **options)
    mine = ids[:, :-1].clone()  # theirs drops the last token, [SEP]
    mine[:, 0] = BOS
    found = written(ours, input_ids=mine, attention_mask=mask[:, :-1], **options)
    assert torch.equal(found, expected)


def test_padded_prompt_writes_as_alone(captioners):
    ours, _ = captioners
    ids, mask = prompts(padded=True)
    ids[torch.arange(3), mask.argmax(dim=1)] = BOS
    for num_beams in (1, 3):
        options = {"num_beams": num_beams, "max_new_tokens": 9}
        together = written(ours, input_ids=ids, attention_mask=mask, **options)
        for i in range(3):
            kept = ids[i : i + 1, mask[i].bool()]
            alone = ours.generate(images()[i : i + 1], kept, **options)[0, kept.shape[1] :]
            row = together[i, 6:]
            assert torch.equal(row[: len(alone)], alone) and (row[len(alone) :] == PAD).all()


@pytest.mark.parametrize("sep", [SEP, 42, 41])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_as_in_transformers(num_beams, sep):
    theirs = writer(ANSWER, sep=sep)
    ours, batch = from_transformers(theirs), inputs(ANSWER, padded=False)
    question = {key: batch[key] for key in ("input_ids", "pixel_values", "attention_mask")}
    options = {"num_beams": num_beams, "max_new_tokens": 10}
    assert torch.equal(ours.generate(**question, **options), theirs.generate(**question, **options))


def test_padding_of_a_question_is_hidden():
    """A padded question gets the answer that it gets alone; theirs has no mask to say so."""
    theirs = writer(ANSWER)
    ours, batch = from_transformers(theirs), inputs(ANSWER, padded=True)
    question = {key: batch[key] for key in ("input_ids", "pixel_values", "attention_mask")}
    for num_beams in (1, 3):
        options = {"num_beams": num_beams, "max_new_tokens": 10}
        together = ours.generate(**question, **options)
        assert not torch.equal(together, theirs.generate(**question, **options))
        for i in range(3):
            kept = question["input_ids"][i : i + 1, question["attention_mask"][i].bool()]
            expected = theirs.generate(kept, question["pixel_values"][i : i + 1], **options)
            row = together[i : i + 1, : expected.shape[1]]
            assert torch.equal(row, expected) and (together[i, expected.shape[1] :] == PAD).all()


def test_theirs_looks_at_padding():
    """Without `hide_padding`, what stands in a question's padding changes their answers' loss."""
    plain = getattr(transformers, ANSWER)(copy.deepcopy(config(ANSWER)))
    plain = randomise(plain, 0, scale=0.3).double()
    batch = inputs(ANSWER, padded=True)
    with torch.no_grad():
        losses = [
            model(**{**batch, "input_ids": ids}).loss.item()
            for model in (plain, reference(ANSWER), from_transformers(plain))
            for ids in (
                batch["input_ids"],
                torch.where(batch["attention_mask"] == 1, batch["input_ids"], 9),
            )
        ]
    assert abs(losses[0] - losses[1]) > 1e-6  # a difference that should not be
    assert losses[2] == losses[3] == pytest.approx(losses[4], rel=1e-12)
    assert losses[4] == losses[5]


def test_cache_changes_nothing(captioners):
    ours, _ = captioners
    for num_beams in (1, 3):
        options = {"num_beams": num_beams, "max_new_tokens": 10}
        assert torch.equal(written(ours, **options), written(ours, **options, use_cache=False))


def test_the_cache_reads_the_image_once(captioners):
    ours, _ = captioners
    read = []
    for layer in ours.text_decoder.text.layers:
        layer.cross_attention.kv.register_forward_hook(lambda *_: read.append(1))
    written(ours, max_new_tokens=6)
    for layer in ours.text_decoder.text.layers:
        layer.cross_attention.kv._forward_hooks.clear()
    assert len(read) == 3  # once for each layer


def test_captions_are_causal():
    ours, batch = from_transformers(reference(CAPTION)), inputs(CAPTION, padded=False)
    changed = batch["input_ids"].clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 60
    with torch.no_grad():
        before, after = ours(**batch).logits, ours(**{**batch, "input_ids": changed}).logits
    assert torch.equal(before[:, :6], after[:, :6])
    assert (before[:, 6:] != after[:, 6:]).any(dim=-1).all()


def test_prompts_of_a_tokenizer_are_refused():
    ours = from_transformers(reference(CAPTION))
    with pytest.raises(ValueError, match=r"start with tokens \[9, 9, 9\] .* expected bos_token_id"):
        written(ours, input_ids=torch.full((3, 2), 9))
    with pytest.raises(ValueError, match="no sep_token_id=5 last"):
        written(ours, input_ids=torch.tensor([[BOS, SEP]] * 3))


@pytest.mark.parametrize(
    ("part", "option", "value"),
    [
        ("text_config", "is_decoder", False),
        ("text_config", "tie_word_embeddings", False),
        ("vision_config", "image_size", [20, 30]),
    ],
)
def test_unsupported_option(part, option, value):
    changed = config(CAPTION)
    setattr(getattr(changed, part), option, value)
    with pytest.raises(ValueError, match=rf"unsupported BLIP config: .*{option}="):
        BlipConfig.from_hf(changed)
