import doctest

import numpy as np
import pytest
from scipy import optimize, stats

from iqa.metrics import bootstrap, coefficients
from iqa.metrics.bootstrap import bootstrap_interval, draw_counts, paired_difference, resample
from iqa.metrics.coefficients import (
    bias,
    krcc,
    logistic,
    logistic_fit,
    plcc,
    plcc_fitted,
    rmse,
    srcc,
    summary,
)
from iqa.metrics.logistic5 import logistic5, logistic5_fit, plcc_fitted5

CORRELATIONS = [srcc, plcc, krcc]


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    """Predictions and MOS of 200 images, correlated, with ties in both."""
    generator = np.random.default_rng(1)
    mos = np.round(generator.uniform(1, 5, 200), 1)
    return np.round(mos + generator.normal(0, 0.7, 200), 1), mos


def noisy(generator: np.random.Generator, mos: np.ndarray, noise: float) -> np.ndarray:
    return mos + generator.normal(0, noise, mos.shape)


def test_the_examples_in_the_docstrings_are_right():
    for module in (bootstrap, coefficients):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("statistic", "reference"), [(srcc, stats.spearmanr), (plcc, stats.pearsonr), (krcc, stats.kendalltau)]
)
def test_correlations_agree_with_scipy_also_with_ties(statistic, reference, scores):
    assert statistic(*scores) == pytest.approx(reference(*scores).statistic, abs=1e-12)


def test_values_worked_out_by_hand():
    # ranks 1 2 3 4 5 against 2 1 4 3 5: sum of squared differences 4, so 1 - 6 * 4 / (5 * 24)
    assert srcc([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
    # 8 pairs in order, 2 out of order, of 10
    assert krcc([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.6)
    # deviations -1 0 1 and -1 -1 2: 3 / sqrt(2 * 6)
    assert plcc([0, 1, 2], [1, 1, 4]) == pytest.approx(3 / np.sqrt(12))
    assert rmse([1, 2, 3], [1, 4, 7]) == pytest.approx(np.sqrt(20 / 3))
    assert bias([1, 2, 3], [1, 4, 7]) == -2 and bias([1, 5, 7], [1, 4, 5]) == 1
    # ties share their mean rank: 1.5 1.5 3 against 1 2 3
    assert srcc([7, 7, 9], [1, 2, 3]) == pytest.approx(1.5 / np.sqrt(1.5 * 2))


@pytest.mark.parametrize("statistic", CORRELATIONS)
def test_identical_scores_correlate_perfectly_and_reversed_scores_negatively(statistic, scores):
    mos = np.unique(scores[1])
    assert statistic(mos, mos) == pytest.approx(1)
    assert statistic(-mos, mos) == pytest.approx(-1)


@pytest.mark.parametrize("statistic", [*CORRELATIONS, rmse])
def test_the_order_of_the_images_and_of_the_arguments_does_not_matter(statistic, scores):
    prediction, mos = scores
    shuffled = np.random.default_rng(0).permutation(mos.size)
    assert statistic(prediction[shuffled], mos[shuffled]) == pytest.approx(statistic(prediction, mos))
    assert statistic(mos, prediction) == pytest.approx(statistic(prediction, mos))


@pytest.mark.parametrize("statistic", [srcc, krcc])
@pytest.mark.parametrize("monotone", [np.exp, np.cbrt, lambda x: 100 * x - 3])
def test_rank_correlations_ignore_monotone_maps(statistic, monotone, scores):
    prediction, mos = scores
    assert statistic(monotone(prediction), mos) == pytest.approx(statistic(prediction, mos), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e3, 1e150])
def test_plcc_ignores_affine_maps_of_any_size(scale, scores):
    prediction, mos = scores
    assert plcc(scale * prediction + scale, mos) == pytest.approx(plcc(prediction, mos), abs=1e-9)
    assert plcc(-scale * prediction, mos) == pytest.approx(-plcc(prediction, mos), abs=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.uint8])
@pytest.mark.parametrize("statistic", [*CORRELATIONS, rmse, bias])
def test_the_type_of_the_numbers_does_not_matter(statistic, dtype):
    prediction, mos = [3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 8, 2, 8, 1, 8]
    result = statistic(np.array(prediction, dtype), np.array(mos, dtype))
    assert isinstance(result, float)
    assert result == pytest.approx(statistic(prediction, mos), abs=1e-12)


@pytest.mark.parametrize("statistic", [*CORRELATIONS, plcc_fitted, plcc_fitted5])
def test_a_constant_input_has_correlation_zero_by_convention(statistic):
    varied, constant = np.linspace(1, 5, 9), np.full(9, 0.1)
    assert statistic(constant, varied) == 0.0
    assert statistic(varied, constant) == 0.0


@pytest.mark.parametrize("statistic", [*CORRELATIONS, rmse, bias, plcc_fitted])
def test_rows_give_one_value_each(statistic, scores):
    predictions, mos = np.stack([scores[0], scores[0][::-1]]), np.stack([scores[1], scores[1]])
    assert statistic(predictions, mos) == pytest.approx([statistic(*row) for row in zip(predictions, mos, strict=True)])


@pytest.mark.parametrize("statistic", [*CORRELATIONS, rmse, bias, plcc_fitted, plcc_fitted5, summary])
@pytest.mark.parametrize(
    ("prediction", "mos", "message"),
    [
        ([1, 2, 3], [1, 2], r"differ in shape: \(3,\) and \(2,\)"),
        ([1], [1], "at least 2 scores"),
        ([], [], "at least 2 scores"),
        ([1, float("nan"), 3], [1, 2, 3], r"prediction\[1\] is nan"),
        ([1, 2, 3], [1, 2, float("-inf")], r"mos\[2\] is -inf"),
    ],
)
def test_unusable_scores_are_refused_with_their_place(statistic, prediction, mos, message):
    with pytest.raises(ValueError, match=message):
        statistic(prediction, mos)


@pytest.mark.parametrize("parameters", [(80, 20, 50, 12), (20, 80, 50, 12), (1, 0, 0.5, 0.05), (5, 1, 1e6, 3e5)])
def test_an_exact_logistic_is_recovered_rising_or_falling_on_any_scale(parameters):
    prediction = np.linspace(parameters[2] - 3 * parameters[3], parameters[2] + 3 * parameters[3], 101)
    mos = logistic(prediction, *parameters)
    assert logistic_fit(prediction, mos) == pytest.approx(parameters, rel=1e-4, abs=1e-5)
    assert plcc_fitted(prediction, mos) == pytest.approx(1, abs=1e-9)


def test_the_fitted_logistic_minimises_the_squared_error(scores):
    prediction, mos = scores
    best = logistic_fit(prediction, mos)
    error = np.sum((logistic(prediction, *best) - mos) ** 2)
    for parameter in range(4):
        for factor in (0.99, 1.01):
            moved = best.copy()
            moved[parameter] *= factor
            assert np.sum((logistic(prediction, *moved) - mos) ** 2) > error


@pytest.mark.parametrize("seed", range(20))
def test_the_logistic_never_fits_worse_than_a_straight_line(seed):
    generator = np.random.default_rng(seed)
    mos = generator.normal(50, 15, 60)
    for prediction in (noisy(generator, mos, 30), generator.normal(0, 1, 60), -(mos**3), np.sign(mos - 50) + mos / 1e4):
        assert plcc_fitted(prediction, mos) >= abs(plcc(prediction, mos)) - 1e-3


@pytest.mark.parametrize(
    ("prediction", "mos", "message"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "at least 5 scores"),
        ([2.5] * 6, range(6), r"prediction is constant \(2.5\)"),
        (range(6), [3] * 6, r"mos is constant \(3\)"),
    ],
)
def test_a_logistic_that_scores_do_not_determine_is_refused(prediction, mos, message):
    with pytest.raises(ValueError, match=message):
        logistic_fit(prediction, mos)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-3])
@pytest.mark.parametrize("size", [6, 8, 60, 300])
def test_predictions_that_are_nearly_equal_are_fitted_no_worse_than_by_a_line(size, spread, seed):
    """No logistic has the least misfit to some of them, so that a search for it does not end."""
    generator = np.random.default_rng(seed)
    prediction = generator.integers(0, 3, size) + spread * generator.normal(size=size)
    mos = generator.uniform(0, 100, size)
    straight = abs(plcc(prediction, mos))
    for fitted in (plcc_fitted, plcc_fitted5):
        assert straight - 1e-5 <= fitted(prediction, mos) <= 1 + 1e-9


@pytest.mark.parametrize("parameters", [(80, 0.2, 50, 0, 20), (-3, 1.5, 4, 2, 7), (1, 8, 0.5, -0.2, 0.4)])
def test_an_exact_5_parameter_logistic_is_recovered_on_any_scale(parameters):
    prediction = np.linspace(parameters[2] - 6 / parameters[1], parameters[2] + 5 / parameters[1], 101)
    mos = logistic5(prediction, *parameters)
    assert logistic5_fit(prediction, mos) == pytest.approx(parameters, rel=1e-3, abs=1e-3)
    assert plcc_fitted5(prediction, mos) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_5_parameter_logistic_fits_as_well_as_scipys_search_over_all_its_parameters(seed):
    generator = np.random.default_rng(seed)
    mos = generator.uniform(0, 100, 150)
    prediction = (np.exp(mos / 40) + generator.normal(0, 1, 150)) * (-1) ** seed

    def error(b):
        curve = b[0] * (0.5 - 1 / (1 + np.exp(np.clip(b[1] * (prediction - b[2]), -500, 500)))) + b[3] * prediction
        return curve + b[4] - mos

    starts = ((100, 1.0, place, 0, 50) for place in np.quantile(prediction, [0.2, 0.5, 0.8]))
    theirs = min((optimize.least_squares(error, start, x_scale="jac") for start in starts), key=lambda fit: fit.cost)
    ours = logistic5(prediction, *logistic5_fit(prediction, mos))
    assert np.sum((ours - mos) ** 2) <= 2 * theirs.cost * (1 + 1e-5)
    assert plcc_fitted5(prediction, mos) == pytest.approx(plcc(ours, mos))
    assert plcc_fitted5(prediction, mos) >= max(plcc_fitted(prediction, mos), abs(plcc(prediction, mos))) - 1e-6


@pytest.mark.parametrize(("prediction", "mos"), [(range(5), range(5)), ([2.5] * 7, range(7)), (range(7), [3] * 7)])
def test_a_5_parameter_logistic_that_scores_do_not_determine_is_refused(prediction, mos):
    with pytest.raises(ValueError, match="needs 6 scores that are not all the same"):
        logistic5_fit(prediction, mos)


def test_the_summary_holds_every_figure_as_a_plain_number(scores):
    figures = summary(*scores)
    assert list(figures) == ["n", "srcc", "plcc", "plcc_fitted", "krcc", "rmse", "bias"]
    assert figures["n"] == 200 and figures["srcc"] == srcc(*scores) and figures["rmse"] == rmse(*scores)
    assert all(type(value) in (int, float) for value in figures.values())


def test_the_summary_of_a_collapsed_model_is_zero_correlation_and_of_constant_mos_an_error():
    figures = summary([3] * 6, range(6))
    assert [figures[name] for name in ("srcc", "plcc", "plcc_fitted", "krcc")] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="all 6 MOS are 3"):
        summary(range(6), [3] * 6)


@pytest.mark.parametrize("statistic", [srcc, plcc, rmse, bias])
def test_the_interval_agrees_with_scipys_bootstrap(statistic, scores):
    ours = bootstrap_interval(statistic, *scores, resamples=2000)
    reference = stats.bootstrap(
        scores, lambda a, b, axis: statistic(a, b), paired=True, n_resamples=2000, method="percentile", rng=3
    ).confidence_interval
    width = reference.high - reference.low
    assert ours == pytest.approx((reference.low, reference.high), abs=0.1 * width)


def test_the_interval_covers_the_true_correlation_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    truth = 0.8
    covered = 0
    for seed in range(200):
        mos = generator.normal(size=150)
        prediction = truth * mos + np.sqrt(1 - truth**2) * generator.normal(size=150)
        low, high = bootstrap_interval(plcc, prediction, mos, resamples=300, confidence=0.9, seed=seed)
        covered += low <= truth <= high
    assert 0.83 <= covered / 200 <= 0.96


def test_intervals_narrow_with_more_images_and_widen_with_more_confidence():
    generator = np.random.default_rng(3)
    mos = generator.normal(size=1600)
    prediction = noisy(generator, mos, 0.5)

    def width(n: int, confidence: float) -> float:
        low, high = bootstrap_interval(srcc, prediction[:n], mos[:n], resamples=300, confidence=confidence)
        return high - low

    assert width(1600, 0.95) == pytest.approx(width(100, 0.95) / 4, rel=0.35)
    assert width(100, 0.5) < width(100, 0.9) < width(100, 0.99)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another(scores):
    first, again, other = (bootstrap_interval(srcc, *scores, resamples=100, seed=seed) for seed in (5, 5, 6))
    assert first == again != other


def test_the_interval_does_not_depend_on_how_the_resamples_are_chunked(scores, monkeypatch):
    whole = bootstrap_interval(srcc, *scores, resamples=100)
    monkeypatch.setattr(bootstrap, "CHUNK", 7 * 200)
    assert bootstrap_interval(srcc, *scores, resamples=100) == whole


def test_a_resample_of_equal_scores_does_not_spoil_the_interval():
    assert np.isfinite(bootstrap_interval(srcc, [1, 2], [3, 4], resamples=50)).all()


@pytest.mark.parametrize(("wrong", "message"), [({"confidence": 95}, "confidence"), ({"resamples": 0}, "resamples")])
def test_impossible_settings_of_the_bootstrap_are_refused(wrong, message, scores):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(srcc, *scores, **wrong)


def test_a_model_is_not_distinguishable_from_itself(scores):
    prediction, mos = scores
    assert paired_difference(srcc, prediction, prediction, mos, resamples=100) == (0.0, 0.0, 0.0, 1.0)


def test_a_clearly_better_model_is_found_better_and_exchanging_the_models_changes_the_sign():
    generator = np.random.default_rng(4)
    mos = generator.normal(size=300)
    good, poor = noisy(generator, mos, 0.3), noisy(generator, mos, 1.0)
    better, worse = (paired_difference(srcc, *models, mos, resamples=400) for models in ((good, poor), (poor, good)))
    assert better.difference == pytest.approx(srcc(good, mos) - srcc(poor, mos))
    assert 0 < better.low < better.difference < better.high
    assert better.p_value == pytest.approx(2 / 401)
    assert worse == pytest.approx((-better.difference, -better.high, -better.low, better.p_value))


def test_pairing_narrows_the_interval_of_models_that_err_alike():
    generator = np.random.default_rng(5)
    mos = generator.normal(size=300)
    common = noisy(generator, mos, 0.6)
    a, b = noisy(generator, common, 0.1), noisy(generator, common, 0.1)
    comparison = paired_difference(srcc, a, b, mos, resamples=400)
    low, high = bootstrap_interval(srcc, a, mos, resamples=400)
    assert comparison.high - comparison.low < (high - low) / 2


def test_equally_good_models_are_rarely_called_different():
    generator = np.random.default_rng(6)
    called = 0
    for seed in range(100):
        mos = generator.normal(size=100)
        a, b = noisy(generator, mos, 0.7), noisy(generator, mos, 0.7)
        called += paired_difference(plcc, a, b, mos, resamples=200, seed=seed).p_value < 0.05
    assert called <= 12


def test_images_of_one_content_are_drawn_together():
    contents = np.repeat(["a", "b", "c"], [2, 3, 1])
    drawn = np.concatenate(list(draw_counts(6, 50, seed=1, groups=contents)))
    assert drawn.shape == (50, 6)
    for counts in drawn:
        assert counts[0] == counts[1] and counts[2] == counts[3] == counts[4]
        assert counts[0] + counts[2] + counts[5] == 3


def test_contents_of_one_image_each_give_the_plain_bootstrap():
    plain = np.concatenate(list(draw_counts(7, 20, seed=3)))
    assert np.array_equal(plain, np.concatenate(list(draw_counts(7, 20, seed=3, groups=np.arange(7)))))
    assert plain.shape == (20, 7) and (plain.sum(axis=1) == 7).all()


@pytest.mark.parametrize("groups", [None, np.arange(60) // 4])
@pytest.mark.parametrize("statistic", [srcc, plcc, krcc, rmse, bias, plcc_fitted])
def test_a_statistic_of_counts_is_that_of_the_repeated_images(statistic, groups, monkeypatch):
    monkeypatch.setattr(bootstrap, "BLOCK", 17)
    generator = np.random.default_rng(7)
    mos = generator.normal(size=60).round(1)  # with ties
    predictions = [noisy(generator, mos, 0.6).round(1), noisy(generator, mos, 3.0), np.full(60, 4.0)]
    counts = np.concatenate(list(draw_counts(60, 25, seed=2, groups=groups)))
    found = resample(statistic, predictions, mos, resamples=25, seed=2, groups=groups)
    for values, prediction in zip(found, predictions, strict=True):
        expected = [statistic(np.repeat(prediction, row), np.repeat(mos, row)) for row in counts]
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_kendalls_bootstrap_is_the_same_for_many_images_as_for_few(monkeypatch):
    generator = np.random.default_rng(8)
    mos = generator.normal(size=80).round(1)  # with ties
    prediction = noisy(generator, mos, 1.0).round(1)
    (of_pairs,) = resample(krcc, [prediction], mos, resamples=20)
    monkeypatch.setattr(bootstrap, "PAIRED", 79)
    (of_many,) = resample(krcc, [prediction], mos, resamples=20)
    np.testing.assert_allclose(of_many, of_pairs, atol=1e-12)


def test_resampled_vectors_that_are_constant_correlate_with_nothing():
    mos, prediction = np.array([1.0, 1.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.3, 0.4]) / 3
    for statistic in (srcc, plcc, krcc):
        (values,) = resample(statistic, [prediction], mos, resamples=60, seed=1)
        without_last = np.concatenate(list(draw_counts(4, 60, seed=1)))[:, 3] == 0
        assert without_last.any() and (values[without_last] == 0).all() and np.isfinite(values).all()


def test_dependent_images_widen_the_interval():
    generator = np.random.default_rng(0)
    mos = generator.random(200)
    contents = np.repeat(np.arange(10), 20)
    prediction = mos + generator.normal(0, 0.5, 10)[contents]  # one error for all images of a content
    low, high = bootstrap_interval(plcc, prediction, mos, resamples=300)
    wide_low, wide_high = bootstrap_interval(plcc, prediction, mos, resamples=300, groups=contents)
    assert wide_high - wide_low > 1.5 * (high - low)


def test_groups_that_do_not_cover_the_images_are_an_error():
    with pytest.raises(ValueError, match="content of 2 images, not of 3"):
        bootstrap_interval(plcc, [1, 2, 3], [1, 2, 3], groups=["a", "b"])
