"""Exercises of lesson 18 on diffusion: the way into noise, one step back, and guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- into the noise ------------------------------------------------------------------------------


def noised(images: Tensor, noise: Tensor, alpha_bar: Tensor, timesteps: Tensor) -> Tensor:
    share = alpha_bar[timesteps].view(-1, 1, 1, 1)
    return share.sqrt() * images + (1 - share).sqrt() * noise


def _noised_without_roots(images, noise, alpha_bar, timesteps):
    share = alpha_bar[timesteps].view(-1, 1, 1, 1)
    return share * images + (1 - share) * noise


def _noised_root_on_the_image_only(images, noise, alpha_bar, timesteps):
    share = alpha_bar[timesteps].view(-1, 1, 1, 1)
    return share.sqrt() * images + (1 - share) * noise


def _noised_one_minus_the_root(images, noise, alpha_bar, timesteps):
    share = alpha_bar[timesteps].view(-1, 1, 1, 1).sqrt()
    return share * images + (1 - share) * noise


def _noised_swapped(images, noise, alpha_bar, timesteps):
    return noised(noise, images, alpha_bar, timesteps)


def _noised_by_one_step_alone(images, noise, alpha_bar, timesteps):
    alpha = (alpha_bar[timesteps] / alpha_bar[(timesteps - 1).clamp(min=0)]).view(-1, 1, 1, 1)
    return alpha.sqrt() * images + (1 - alpha).sqrt() * noise


def _noised_one_step_early(images, noise, alpha_bar, timesteps):
    return noised(images, noise, alpha_bar, (timesteps - 1).clamp(min=0))


def _noised_first_step_for_all(images, noise, alpha_bar, timesteps):
    return noised(images, noise, alpha_bar, timesteps[:1].expand_as(timesteps))


def _noised_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, steps: list[int], size: tuple[int, int, int]) -> Case:
        alpha_bar = torch.linspace(1, 0.02, 9, dtype=torch.float64) ** 1.5
        images = torch.rand((len(steps), *size), generator=generator, dtype=torch.float64) * 2 - 1
        noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        return Case((images, noise, alpha_bar, torch.tensor(steps)), label=label)

    return (
        case("three images at steps 3, 8 and 5", [3, 8, 5], (1, 4, 4)),
        case("four colour images of 4 rows and 2 columns", [7, 2, 6, 4], (3, 4, 2)),
        case("step 0: no noise at all", [0, 0], (2, 3, 3)),
    )


# --- one step back -------------------------------------------------------------------------------


def ddim_step(x: Tensor, noise: Tensor, now: Tensor, later: Tensor) -> Tensor:
    guess = (x - (1 - now).sqrt() * noise) / now.sqrt()
    return later.sqrt() * guess + (1 - later).sqrt() * noise


def _step_back_to_the_guess(x, noise, now, later):
    return (x - (1 - now).sqrt() * noise) / now.sqrt()


def _step_guess_without_its_noise(x, noise, now, later):
    return later.sqrt() * _step_back_to_the_guess(x, noise, now, later)


def _step_guess_not_scaled(x, noise, now, later):
    guess = x - (1 - now).sqrt() * noise
    return later.sqrt() * guess + (1 - later).sqrt() * noise


def _step_noise_not_scaled(x, noise, now, later):
    guess = (x - noise) / now.sqrt()
    return later.sqrt() * guess + (1 - later).sqrt() * noise


def _step_into_the_noise(x, noise, now, later):
    return ddim_step(x, noise, later, now)


def _step_keeps_the_old_noise(x, noise, now, later):
    guess = _step_back_to_the_guess(x, noise, now, later)
    return later.sqrt() * guess + (1 - now).sqrt() * noise


def _step_without_roots(x, noise, now, later):
    guess = (x - (1 - now) * noise) / now
    return later * guess + (1 - later) * noise


def _step_subtracts_the_difference(x, noise, now, later):
    return x - ((1 - now).sqrt() - (1 - later).sqrt()) * noise


def _step_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, now: float, later: float, size: tuple[int, ...]) -> Case:
        x, noise = torch.randn((2, *size), generator=generator, dtype=torch.float64)
        shares = (torch.tensor(share, dtype=torch.float64) for share in (now, later))
        return Case((x, noise, *shares), label=label)

    return (
        case("from 30 % image to 55 %", 0.3, 0.55, (3, 1, 4, 4)),
        case("from almost only noise to 10 %", 0.02, 0.1, (2, 3, 5, 3)),
        case("the last step, to a clean image", 0.9, 1.0, (4, 1, 2, 2)),
    )


# --- guidance ------------------------------------------------------------------------------------


def guided(with_label: Tensor, without_label: Tensor, guidance: float) -> Tensor:
    return without_label + guidance * (with_label - without_label)


def _guided_from_the_label(with_label, without_label, guidance):
    return with_label + guidance * (with_label - without_label)


def _guided_away(with_label, without_label, guidance):
    return without_label + guidance * (without_label - with_label)


def _guided_roles_swapped(with_label, without_label, guidance):
    return guided(without_label, with_label, guidance)


def _guided_difference_only(with_label, without_label, guidance):
    return guidance * (with_label - without_label)


def _guided_scaled_label(with_label, without_label, guidance):
    return without_label + guidance * with_label


def _guided_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, guidance: float, size: tuple[int, ...]) -> Case:
        pair = torch.randn((2, *size), generator=generator, dtype=torch.float64)
        return Case((pair[0], pair[1], guidance), label=label)

    return (
        case("guidance 2.5", 2.5, (2, 1, 4, 4)),
        case("guidance 1: the answer with the label", 1.0, (3, 2, 3, 3)),
        case("guidance 0: the answer without", 0.0, (1, 1, 5, 2)),
    )


SAMPLES_EXERCISES = (
    Exercise(
        id="18.noised",
        title="Into the noise",
        reference=noised,
        cases=_noised_cases,
        mistakes=(
            Mistake(
                "the square roots forgotten",
                _noised_without_roots,
                "ᾱ is a share of the *variance*. Take an image of pixels with variance 1 and noise "
                "of variance 1: what variance does your sum have at ᾱ = 0.5? It should be 1.",
            ),
            Mistake(
                "noise without its square root",
                _noised_root_on_the_image_only,
                "The image's factor is right. The noise's factor is to its variance as the image's "
                "factor is to the image's: look at the exponent.",
            ),
            Mistake(
                "1 - √ᾱ instead of √(1 - ᾱ)",
                _noised_one_minus_the_root,
                "The squares of the two factors add up to 1, not the factors themselves.",
            ),
            Mistake(
                "image and noise swapped",
                _noised_swapped,
                "ᾱ is 1 at step 0. What does your function return there? It should be the image.",
            ),
            Mistake(
                "α of one step instead of ᾱ",
                _noised_by_one_step_alone,
                "You added the noise of step t alone. ᾱ_t, the product of all α up to t, holds the "
                "noise of all t steps: use the table as it is.",
            ),
            Mistake(
                "one step early",
                _noised_one_step_early,
                "`alpha_bar[0]` is 1 and belongs to step 0, the clean image: no index is to be "
                "moved.",
            ),
            Mistake(
                "one step for the whole batch",
                _noised_first_step_for_all,
                "Each image of the batch has a step of its own. Look up all of `timesteps`, then "
                "give the result three axes of size 1.",
            ),
        ),
        praise="One line takes an image to any step; training never walks through the steps.",
    ),
    Exercise(
        id="18.ddim_step",
        title="One step back",
        reference=ddim_step,
        cases=_step_cases,
        mistakes=(
            Mistake(
                "all the way to the guess",
                _step_back_to_the_guess,
                "That is the guess at x_0. Early guesses are poor: go back only as far as `later`, "
                "by adding the noise that belongs there.",
            ),
            Mistake(
                "no noise added back",
                _step_guess_without_its_noise,
                "The image at the next step is still noisy. Which factor does noise have where the "
                "image has √later?",
            ),
            Mistake(
                "the guess not divided by √now",
                _step_guess_not_scaled,
                "x_t = √now · x_0 + √(1 - now) · noise. You took the second part away; what is "
                "left is not yet x_0.",
            ),
            Mistake(
                "noise taken away at full strength",
                _step_noise_not_scaled,
                "x_t holds the noise times √(1 - now), so that much has to go.",
            ),
            Mistake(
                "`now` and `later` swapped",
                _step_into_the_noise,
                "ᾱ grows on the way back. The guess is made from where we are; the new image is "
                "put together for where we go.",
            ),
            Mistake(
                "the old amount of noise",
                _step_keeps_the_old_noise,
                "You put the guess and the noise together for two different steps. The squares of "
                "the two factors should add up to 1.",
            ),
            Mistake(
                "the square roots forgotten",
                _step_without_roots,
                "ᾱ is a share of the variance: factors of pixels are its square roots, as on the "
                "way into the noise.",
            ),
            Mistake(
                "only some noise taken off x",
                _step_subtracts_the_difference,
                "The noise is right at the end, but the image is still as weak as before: its part "
                "has to grow from √now to √later.",
            ),
        ),
        praise="Repeat it from ᾱ ≈ 0 to ᾱ = 1, and noise has become an image.",
    ),
    Exercise(
        id="18.guided",
        title="Louder about the label",
        reference=guided,
        cases=_guided_cases,
        mistakes=(
            Mistake(
                "started from the answer with the label",
                _guided_from_the_label,
                "At guidance 1 the result should be the answer with the label itself. Yours has "
                "the difference in it twice: the paper's w counts from there, ours does not.",
            ),
            Mistake(
                "away from the label",
                _guided_away,
                "The difference points from the label to no label. Which of the two do we want "
                "more of?",
            ),
            Mistake(
                "the two answers swapped",
                _guided_roles_swapped,
                "At guidance 0 the label should have no say. What does your function return there?",
            ),
            Mistake(
                "the difference alone",
                _guided_difference_only,
                "What both answers share, the noise itself, is lost. Add the difference to the "
                "answer without the label.",
            ),
            Mistake(
                "the whole answer scaled, not the difference",
                _guided_scaled_label,
                "Noise has a fixed size. At guidance 1 yours adds the noise twice; only what the "
                "label *changes* should grow.",
            ),
        ),
        praise="Guidance costs a second run of the model at every step.",
    ),
)
