"""Exercises of lesson 24: verdicts, fair comparisons, honest summaries, the best of many runs."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

REPRODUCED, PARTLY = "reproduced", "partly"
WRONG, UNKNOWN = "the article is wrong", "not measurable here"

# --- a verdict -----------------------------------------------------------------------------------


def verdict(time_ratio: tuple[float, float], claimed: float, some: float) -> str:
    low, high = time_ratio
    return _judge(1 / high, 1 / low, claimed, some)


def _judge(slowest: float, fastest: float, claimed: float, some: float) -> str:
    """From the ends of the speed-up's interval."""
    if slowest >= claimed:
        return REPRODUCED
    if slowest >= some:
        return PARTLY
    return WRONG if fastest < some else UNKNOWN


def _verdict_upside_down(time_ratio, claimed, some):
    return _judge(*time_ratio, claimed, some)


def _verdict_middle(time_ratio, claimed, some):
    middle = 2 / sum(time_ratio)
    return _judge(middle, middle, claimed, some)


def _verdict_better_end(time_ratio, claimed, some):
    return _judge(1 / time_ratio[0], 1 / time_ratio[0], claimed, some)


def _verdict_worse_end(time_ratio, claimed, some):
    return _judge(1 / time_ratio[1], 1 / time_ratio[1], claimed, some)


def _verdict_touched(time_ratio, claimed, some):
    low, high = time_ratio
    return REPRODUCED if 1 / low >= claimed else _judge(1 / high, 1 / low, claimed, some)


def _verdict_moved(time_ratio, claimed, some):
    low, high = time_ratio
    return _judge(1 / high, 1 / low, some, some)


def _verdict_more_than(time_ratio, claimed, some):
    low, high = time_ratio
    if 1 / high > claimed:
        return REPRODUCED
    if 1 / high > some:
        return PARTLY
    return WRONG if 1 / low <= some else UNKNOWN


_VERDICT_CASES = (
    Case(((0.22, 0.24), 4.0, 2.0), label="a speed-up between 4.2 and 4.5; claimed 4"),
    Case(
        ((0.40, 0.42), 3.4, 2.0), label="between 2.4 and 2.5; claimed 3.4, worth something from 2"
    ),
    Case(((0.45, 0.60), 3.4, 2.0), label="an interval that holds the lower threshold"),
    Case(((0.70, 0.80), 3.4, 2.0), label="all of the interval below both thresholds"),
    Case(((0.22, 0.33), 3.4, 2.0), label="an interval that holds the claimed value"),
    Case(((0.40, 0.50), 4.0, 2.0), label="the slower end is exactly the lower threshold"),
    Case(((0.20, 0.25), 4.0, 2.0), label="the slower end is exactly the claimed value"),
    Case(((1.60, 1.80), 3.0, 1.5), label="a change that made it slower"),
)

# --- side by side --------------------------------------------------------------------------------


def side_by_side(first: Tensor, again: Tensor, second: Tensor) -> tuple[float, str]:
    return _compared((second / first).median().item(), again / first)


def _compared(ratio: float, control: Tensor) -> tuple[float, str]:
    low, high = control.min().item(), control.max().item()
    if ratio < min(1.0, low):
        return ratio, "faster"
    return ratio, "slower" if ratio > max(1.0, high) else "no clear difference"


def _side_ratio_of_medians(first, again, second):
    return _compared((second.median() / first.median()).item(), again / first)


def _side_ratio_of_means(first, again, second):
    return _compared((second.mean() / first.mean()).item(), again / first)


def _side_best_of_each(first, again, second):
    return _compared((second.min() / first.min()).item(), again / first)


def _side_upside_down(first, again, second):
    return _compared((first / second).median().item(), again / first)


def _side_without_control(first, again, second):
    return _compared((second / first).median().item(), torch.ones(1))


def _side_middle_of_control(first, again, second):
    return _compared((second / first).median().item(), (again / first).median())


def _side_control_against_second(first, again, second):
    return _compared((second / first).median().item(), again / second)


def _side_mean_of_ratios(first, again, second):
    return _compared((second / first).mean().item(), again / first)


def _side_cases() -> tuple[Case, ...]:
    def noise(rounds: int, seed: int, spread: float) -> Tensor:
        chance = torch.Generator().manual_seed(seed)
        return 1 + spread * torch.rand(rounds, generator=chance, dtype=torch.float64)

    def times(rounds, seed, ratio, *, spread=0.04, spell=None, control=1.0):
        machine = torch.ones(rounds, dtype=torch.float64) if spell is None else spell
        first, again, second = (0.01 * machine * noise(rounds, seed + i, spread) for i in range(3))
        return first, control * again, ratio * second

    spell = torch.tensor([1, 1, 1, 1, 2.6, 3.1, 2.9, 3.3, 3.0], dtype=torch.float64)
    uneven = torch.tensor([1, 4, 1.2, 3, 1, 1.1, 5], dtype=torch.float64)
    outlier = times(9, 50, 0.8)
    outlier[2][4] *= 6
    return (
        Case(times(11, 0, 0.6), label="a quiet machine, and clearly less time"),
        Case(times(9, 10, 0.85, spell=spell), label="a slow spell over five of nine rounds"),
        Case(times(9, 20, 0.75, control=0.7),
             label="the control itself is off: the first is slower before than after"),
        Case(times(7, 30, 1.5, spell=uneven), label="an uneven machine, and clearly more time"),
        Case(times(11, 40, 0.99, spread=0.2), label="a noisy machine, and hardly a difference"),
        Case(outlier, label="one round in which the second met something else"),
    )  # fmt: skip


# --- one number for many speed-ups ---------------------------------------------------------------


def summary(old: Tensor, new: Tensor) -> float:
    return (old / new).log().mean().exp().item()


def _summary_mean(old, new):
    return (old / new).mean().item()


def _summary_of_totals(old, new):
    return (old.sum() / new.sum()).item()


def _summary_best(old, new):
    return (old / new).max().item()


def _summary_inverse_mean(old, new):
    return 1 / (new / old).mean().item()


def _summary_median(old, new):
    return (old / new).median().item()


def _summary_upside_down(old, new):
    return 1 / summary(old, new)


def _summary_log(old, new):
    return (old / new).log().mean().item()


def _seconds(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


_SUMMARY_CASES = (
    Case((_seconds(4, 1), _seconds(1, 2)), label="four times as fast here, half as fast there"),
    Case((_seconds(0.1, 0.2, 30), _seconds(0.02, 0.1, 29)), label="one long case, hardly faster"),
    Case((_seconds(1, 2, 3, 4, 5), _seconds(2, 1, 1, 5, 4)), label="five cases, some slower"),
)

# --- find the bug: the best of many runs ---------------------------------------------------------


def chosen_and_reported(validation: Tensor, test: Tensor) -> tuple[int, float]:
    recipe = validation.mean(dim=0).argmax().item()
    return recipe, test[:, recipe].mean().item()


def best_of_all(validation: Tensor, test: Tensor) -> tuple[int, float]:
    best = test.argmax().item()
    recipe = best % test.shape[1]
    return recipe, test.max().item()


def _report_chosen_on_test(validation, test):
    return chosen_and_reported(test, test)


def _report_best_seed(validation, test):
    recipe, _ = chosen_and_reported(validation, test)
    return recipe, test[:, recipe].max().item()


def _report_validation(validation, test):
    return chosen_and_reported(validation, validation)


def _report_one_run(validation, test):
    best = validation.argmax().item()
    return best % test.shape[1], test.flatten()[best].item()


def _report_recipe_of_best_run(validation, test):
    recipe = validation.argmax().item() % test.shape[1]
    return recipe, test[:, recipe].mean().item()


def _report_recipe_of_best_test_run(validation, test):
    recipe = test.argmax().item() % test.shape[1]
    return recipe, test[:, recipe].mean().item()


def _report_all_recipes(validation, test):
    recipe, _ = chosen_and_reported(validation, test)
    return recipe, test.mean().item()


def _report_cases() -> tuple[Case, ...]:
    def scores(seeds: int, recipes: int, seed: int) -> Tensor:
        chance = torch.Generator().manual_seed(seed)
        return 0.6 + 0.3 * torch.rand(seeds, recipes, generator=chance, dtype=torch.float64)

    lucky = (
        torch.tensor([[0.70, 0.95], [0.72, 0.40], [0.71, 0.45]], dtype=torch.float64),
        torch.tensor([[0.69, 0.90], [0.70, 0.42], [0.74, 0.41]], dtype=torch.float64),
    )
    return (
        Case(lucky, label="one recipe with one lucky seed"),
        Case((scores(3, 4, 0), scores(3, 4, 1)), label="3 seeds, 4 recipes"),
        Case((scores(5, 2, 2), scores(5, 2, 3)), label="5 seeds, 2 recipes"),
        Case((scores(4, 4, 4), scores(4, 4, 5)), label="as many seeds as recipes"),
    )


EXERCISES = (
    Exercise(
        id="24.verdict",
        title="A verdict",
        reference=verdict,
        cases=_VERDICT_CASES,
        mistakes=(
            Mistake(
                "the ratio upside down",
                _verdict_upside_down,
                "A time ratio of 0.25 means four times as fast. Turn both ends over, and mind "
                "which of them is then the larger.",
            ),
            Mistake(
                "the interval ignored",
                _verdict_middle,
                "You judge by the middle of the interval, as if it were certain. Ask what holds "
                "for *all* of it.",
            ),
            Mistake(
                "the better end",
                _verdict_better_end,
                "You judge by the end that flatters. After turning over, the *larger* time ratio "
                "gives the smaller speed-up.",
            ),
            Mistake(
                "no room for doubt",
                _verdict_worse_end,
                "When the interval holds the lower threshold, neither verdict follows from it. "
                "Which of the four words is for that?",
            ),
            Mistake(
                "touched is enough",
                _verdict_touched,
                "You say reproduced as soon as the interval reaches the claimed value. A wide "
                "interval reaches everything: all of it must be there.",
            ),
            Mistake(
                "the threshold moved to the result",
                _verdict_moved,
                "Some speed-up is not the claimed one. `claimed` was set before; it stays.",
            ),
            Mistake(
                "more than, instead of at least",
                _verdict_more_than,
                "Look at a speed-up whose slower end is exactly the threshold: at least includes "
                "it.",
            ),
        ),
        praise="The same rule for a welcome result and an unwelcome one.",
    ),
    Exercise(
        id="24.side_by_side",
        title="Side by side",
        reference=side_by_side,
        cases=_side_cases,
        mistakes=(
            Mistake(
                "the ratio of two medians",
                _side_ratio_of_medians,
                "The two medians may come from different rounds, one from before a slow spell and "
                "one from within it. Take the ratio within each round first.",
            ),
            Mistake(
                "the ratio of two means",
                _side_ratio_of_means,
                "In a mean, the slow rounds count most. Take the ratio within each round, then "
                "the median.",
            ),
            Mistake(
                "the best of each",
                _side_best_of_each,
                "The two best times come from different rounds. What was side by side must stay "
                "side by side.",
            ),
            Mistake(
                "the mean of the ratios",
                _side_mean_of_ratios,
                "The pairs are right. One round that met something else pulls the mean along; "
                "the median hardly moves.",
            ),
            Mistake(
                "upside down",
                _side_upside_down,
                "Below 1 must mean that the second takes less time.",
            ),
            Mistake(
                "no control",
                _side_without_control,
                "A ratio of 0.98 is below 1, and so is many a ratio of a thing to itself. What "
                "does `again` tell?",
            ),
            Mistake(
                "only the middle of the control",
                _side_middle_of_control,
                "The median of the control says whether it is off. How far noise alone goes is "
                "said by its lowest and highest ratio.",
            ),
            Mistake(
                "the control against the second",
                _side_control_against_second,
                "The control compares a thing with *itself*: `again` with `first`.",
            ),
        ),
        praise="And when the control is far from 1, look for who disturbs whom.",
    ),
    Exercise(
        id="24.summary",
        title="One number for many speed-ups",
        reference=summary,
        cases=_SUMMARY_CASES,
        mistakes=(
            Mistake(
                "the mean of the speed-ups",
                _summary_mean,
                "Swap old and new in the first case: four times and half as fast becomes a "
                "quarter and twice. Both means are above 1, so both would be faster.",
            ),
            Mistake(
                "the ratio of the totals",
                _summary_of_totals,
                "One long case decides it all. Each case should count the same, however long it "
                "takes.",
            ),
            Mistake(
                "the best case",
                _summary_best,
                "That is the *up to* of advertisements. The summary must not hide the cases that "
                "got slower.",
            ),
            Mistake(
                "the mean turned over",
                _summary_inverse_mean,
                "You averaged the time ratios and turned the mean over. Swapped, it gives another "
                "answer, too: here the slow cases count most.",
            ),
            Mistake(
                "the median",
                _summary_median,
                "The median is honest, but it takes no notice of how far the others are away. The "
                "exercise asks for the mean that suits factors.",
            ),
            Mistake(
                "upside down",
                _summary_upside_down,
                "A speed-up is the old time over the new one: 2 is twice as fast.",
            ),
            Mistake(
                "still a logarithm",
                _summary_log,
                "The mean of the logarithms is the logarithm of the answer.",
            ),
        ),
        praise="Swap old and new, and it turns over: it favours neither.",
    ),
    Exercise(
        id="24.best_of_bug",
        title="Find the bug: the best of many runs",
        reference=chosen_and_reported,
        start=best_of_all,
        cases=_report_cases,
        mistakes=(
            Mistake(
                "chosen on the test set",
                _report_chosen_on_test,
                "The mean over the seeds is right. But the recipe was chosen by the very numbers "
                "that are reported: the highest of several means is high by luck as well.",
            ),
            Mistake(
                "the best seed",
                _report_best_seed,
                "The recipe is chosen fairly. Who repeats it gets a seed of their own, not your "
                "best one.",
            ),
            Mistake(
                "validation reported",
                _report_validation,
                "The recipe was chosen because its validation score is high, so that score is "
                "flattered. There is a second tensor for the report.",
            ),
            Mistake(
                "one run for all",
                _report_one_run,
                "You took the run with the best validation score, and its test score. That is one "
                "seed. Choose a recipe by what it does on average, and report the average.",
            ),
            Mistake(
                "the recipe of the luckiest run",
                _report_recipe_of_best_run,
                "You report a mean, but one lucky run decided which recipe. Average over the "
                "seeds before you choose.",
            ),
            Mistake(
                "the recipe of the best test run",
                _report_recipe_of_best_test_run,
                "You report a mean now. The choice still looks at the test set, and at its "
                "luckiest run.",
            ),
            Mistake(
                "the mean over all recipes",
                _report_all_recipes,
                "The test scores of the recipes that you did not choose do not count.",
            ),
        ),
        praise="Whoever repeats this recipe should expect what you report.",
    ),
)
