"""Power and equivalence: what a comparison finds with a probability of 80%, and what it may call equal."""

import numpy as np
import pytest
from scipy import stats

from iqa.metrics.bootstrap import equivalence_p_value, p_value
from iqa.metrics.power import contents_needed, detectable, seeds_needed

ALPHA, STUDIES, SAMPLES = 0.05, 600, 1000


def studies(truth, images, noise, seeds, groups, generator):
    """Resampled differences (studies, samples) of two of some groups, as `03_ablation` draws them."""
    reached = generator.normal(0, noise, (STUDIES, groups, seeds))
    spread = np.sqrt(reached.var(axis=2, ddof=1).mean(axis=1))[:, None]
    means = reached.mean(axis=2)
    measured = truth + means[:, 1] - means[:, 0] + generator.normal(0, images, STUDIES)
    of_seeds = stats.t.rvs(groups * (seeds - 1), size=(2, STUDIES, SAMPLES), random_state=generator)
    drawn = generator.normal(0, images, (STUDIES, SAMPLES)) + (of_seeds[0] - of_seeds[1]) * spread / np.sqrt(seeds)
    return measured[:, None] + drawn


@pytest.mark.parametrize(
    ("images", "noise", "seeds", "groups"),
    [(0.004, 0.005, 3, 4), (0.01, 0.001, 3, 2), (0.001, 0.01, 3, 3), (0.004, 0.009, 5, 10), (0.003, 0.01, 2, 6)],
)
def test_a_difference_of_the_detectable_size_is_found_in_four_of_five_studies(images, noise, seeds, groups):
    level = ALPHA / (groups - 1)
    truth = detectable(images, noise * np.sqrt(2 / seeds), groups * (seeds - 1), level)
    drawn = studies(truth, images, noise, seeds, groups, np.random.default_rng(0))
    found = np.mean([p_value(values) < level for values in drawn])
    assert 0.72 < found < 0.88


def test_the_detectable_difference_is_that_of_the_textbook_where_one_kind_of_noise_is_all():
    assert detectable(0.01, 0.0, 5, 0.05) == pytest.approx(0.01 * (1.95996 + 0.84162), abs=1e-6)
    assert detectable(0.0, 0.01, 4, 0.05) == pytest.approx(0.01 * (2.77645 + 0.94096), abs=1e-6)


def test_more_noise_a_stricter_level_and_more_power_need_a_larger_difference():
    plain = detectable(0.01, 0.01, 4, 0.05)
    assert plain < min(
        detectable(0.02, 0.01, 4, 0.05), detectable(0.01, 0.02, 4, 0.05), detectable(0.01, 0.01, 2, 0.05)
    )
    shares = np.linspace(0.01, 0.99, 30)
    assert (np.diff(detectable(0.01, 0.01, 4, 0.05, shares)) > 0).all() and detectable(0.01, 0.01, 4, 0.01) > plain


@pytest.mark.parametrize("difference", [0.02, -0.02])
def test_with_the_seeds_or_contents_needed_the_difference_is_just_detectable(difference):
    seeds = seeds_needed(difference, 0.004, 0.02, 3, 0.025)
    limits = [detectable(0.004, 0.02 * np.sqrt(2 / n), 3 * (n - 1), 0.025) for n in (seeds - 1, seeds)]
    assert seeds > 2 and limits[1] <= abs(difference) < limits[0]
    contents = contents_needed(difference, 0.03, 50, 0.003, 6, 0.025)
    limits = [detectable(0.03 * np.sqrt(50 / n), 0.003, 6, 0.025) for n in (contents - 1, contents)]
    assert contents > 50 and limits[1] <= abs(difference) < limits[0]


def test_no_number_is_enough_where_the_other_noise_hides_the_difference():
    assert seeds_needed(0.01, 0.01, 0.001, 3, 0.05) == contents_needed(0.01, 0.001, 50, 0.01, 6, 0.05) == np.inf
    assert seeds_needed(0.0, 0.0, 0.001, 3, 0.05) == np.inf
    assert seeds_needed(1.0, 0.01, 0.001, 3, 0.05) == 2


def test_the_equivalence_test_takes_the_larger_of_two_one_sided_p_values():
    values = np.array([-0.02] * 3 + [0.0] * 90 + [0.02] * 6)
    assert equivalence_p_value(values, 0.01) == equivalence_p_value(-values, 0.01) == 7 / 100
    assert equivalence_p_value(values, 0.03) == 1 / 100 and equivalence_p_value(values, 0.001) == 7 / 100
    assert equivalence_p_value(np.full(99, 0.01), 0.01) == 1


def test_models_that_differ_by_the_margin_are_rarely_called_equivalent_and_equal_ones_mostly():
    called = {}
    for truth in (0.02, 0.0):
        drawn = studies(truth, 0.004, 0.003, 3, 4, np.random.default_rng(1))
        called[truth] = np.mean([equivalence_p_value(values, 0.02) < ALPHA for values in drawn])
    assert called[0.02] <= 0.07 and called[0.0] > 0.8
