"""Other seeds give other models, and the same seed the same one."""

from __future__ import annotations

from experiments import blip_shapes_seeds, clip_shapes_seeds
from experiments.blip_shapes import Pictures as BlipPictures
from experiments.clip_shapes import BATCH
from experiments.clip_shapes import Pictures as ClipPictures


def test_clip_again():
    judged = {"seen": ClipPictures("test", 60, num_objects=(1,))}
    sizes = (6 * BATCH, 2 * BATCH)
    first, same, other = (
        clip_shapes_seeds.again(seed, judged, sizes=sizes, steps=6) for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other
    assert set(first) == {"seen"} and 0 <= first["seen"]["ensemble"] <= 1


def test_blip_again_goes_through_both_stages(monkeypatch):
    judged = {"test": BlipPictures("test", 12)}
    stages = [{"losses": ("itc", "lm"), "steps": 2}, {"losses": ("lm",), "steps": 2}]
    calls, pretrain = [], blip_shapes_seeds.pretrain

    def watched(pictures, *arguments, **options):
        model, history = pretrain(pictures, *arguments, batch=8, **options)
        calls.append((pictures.texts, options["seed"], options["start"], model))
        return model, history

    monkeypatch.setattr(blip_shapes_seeds, "pretrain", watched)
    for seed in (1, 2):
        found = blip_shapes_seeds.again(seed, judged, size=40, stages=stages)
        assert set(found) == {"test"} and 0 <= found["test"] <= 1
    texts, seeds, starts, models = zip(*calls, strict=True)
    assert len(set(seeds)) == 4
    assert starts == (None, models[0], None, models[2])
    assert texts[0] == texts[1] != texts[2]
