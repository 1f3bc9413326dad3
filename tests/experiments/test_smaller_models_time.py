"""The timed ways classify what the models they stand for classify."""

import torch

from experiments import smaller_models_time as timed
from experiments.c08_distillation import encode
from zoo_lessons.bench import CONTROL, Comparison
from zoo_lessons.datasets.topics import TOPICS, passages_by_topic
from zoo_lessons.early_exit import EarlyExit
from zoo_lessons.training import seed_everything
from zoo_lessons.weights import load_pretrained


def test_every_way_runs_on_all_parts():
    seed_everything(0)
    teacher = EarlyExit(load_pretrained("minilm"), len(TOPICS)).eval()
    seen = []
    teacher.encoder.layers[0].register_forward_hook(
        lambda _module, inputs, _output: seen.append(len(inputs[0]))
    )
    passages = encode(passages_by_topic("test", 1))
    functions = timed.ways(teacher, teacher, passages.parts(4))
    assert list(functions) == [
        "6 layers", "3 layers", "half of the heads", "classifiers only",
        "patience 1", "patience 2", "patience 3", "patience 4",
    ]  # fmt: skip
    for name, run in functions.items():
        seen.clear()
        run()
        assert seen == ([] if name == "3 layers" else [4, 2])
    with torch.no_grad():
        everyone = teacher.predict(passages.ids, passages.mask, patience=99)
    assert set(everyone.layers.tolist()) == {6}


def test_times_are_shares_of_the_full_model():
    seconds = {CONTROL: [1.0] * 5, "6 layers": [1.0] * 5, "3 layers": [0.5] * 5}
    comparison = Comparison.from_dict({**example(), "seconds": seconds})
    assert timed.summary(comparison)["3 layers"]["ratio"] == 0.5


def example():
    from zoo_lessons.bench import compare

    return compare({"6 layers": lambda: sum(range(100)), "3 layers": lambda: sum(range(50))},
                   rounds=5).as_dict()  # fmt: skip
