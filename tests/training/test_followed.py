"""Every parameter of a training is followed, and what is reported is measured where it is said to be."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from iqa.metrics import coefficients
from iqa.model.predictor import load_model
from iqa.model.scoring import score
from iqa.training import losses
from iqa.training.batches import Patches, train_loader
from iqa.training.fit import Fit, fit, fit_line
from iqa.training.train import train

pytestmark = pytest.mark.slow

SHORT = {"epochs": 1, "schedule": "constant", "clip": 0.0}
# a parameter with another value, and with what else it has an effect
FOLLOWED: dict[str, dict] = {
    "crop": {"crop": 72},
    "train_patches": {"train_patches": 2},
    "backbone_args": {"backbone_args": {"stem_width": 4, "channels": [8, 8, 8, 8], "zero_init_last": True}},
    "mean": {"mean": [0.4, 0.5, 0.5]},
    "std": {"std": [0.2, 0.16, 0.16]},
    "semantic_dropout": {"semantic_dropout": 0.5},
    "dropout": {"dropout": 0.5},
    "drop_path": {"drop_path": 0.5},
    "output_scale": {"output_scale": 10.0},
    "loss": {"loss": "l2"},
    "weight_of_a_term": {"loss": "2*l1"},
    "rank_weight": {"rank_weight": 0.0},
    "rank_margin": {"rank_margin": 0.3},
    "batch_size": {"batch_size": 4},
    "lr": {"lr": 1e-3},
    "lr_ratio": {"lr_ratio": 3.0},
    "optimizer": {"optimizer": "adam"},
    "weight_decay": {"weight_decay": 0.5},
    "schedule": {"schedule": "cosine"},
    "clip": {"clip": 0.01},
    "accumulate": {"accumulate": 2},
    "freeze_backbone": {"freeze_backbone": True},
    "freeze_batch_norm": {"freeze_batch_norm": True},
    "seed": {"seed": 2},
    "precision": {"precision": "bf16-mixed"},
}
FOLLOWED_WITH: dict[str, tuple[dict, dict]] = {
    "hypernet_epochs": ({"epochs": 2}, {"hypernet_epochs": 1}),
    "schedule_epochs": ({"epochs": 2, "schedule": "step", "schedule_epochs": 1}, {"schedule_epochs": 2}),
    "final_lr": ({"schedule": "cosine"}, {"final_lr": 0.5}),
    "dropout_layers": ({"dropout": 0.5, "dropout_layers": 1}, {"dropout_layers": 2}),
}


@pytest.fixture(scope="module")
def data():
    return tiny.database()


def last_weights(data, folder, **changes) -> list[torch.Tensor]:
    """The weights after the last epoch."""
    folder.mkdir(exist_ok=True)
    update = SHORT | {"save_all_epochs": True} | changes
    fit(tiny.PARAMS.model_copy(update=update), data, folder, {})
    last = max((folder / "epochs").iterdir())
    return list(torch.load(last, weights_only=True)["state_dict"].values())


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    return last_weights(data, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", FOLLOWED)
def test_another_value_of_a_parameter_is_another_training(data, plain, tmp_path, name):
    assert not same(last_weights(data, tmp_path, **FOLLOWED[name]), plain)


@pytest.mark.parametrize("name", FOLLOWED_WITH)
def test_another_value_of_a_parameter_that_needs_another_is_another_training(data, tmp_path, name):
    base, change = FOLLOWED_WITH[name]
    one = last_weights(data, tmp_path / "one", **base)
    assert not same(last_weights(data, tmp_path / "other", **base | change), one)


@pytest.mark.parametrize("what", ["initial weights", "order", "patches", "dropout"])
def test_the_seed_decides(data, tmp_path, monkeypatch, what):
    assert seeded(what, 1, data, tmp_path, monkeypatch) == seeded(what, 1, data, tmp_path, monkeypatch)
    assert seeded(what, 1, data, tmp_path, monkeypatch) != seeded(what, 2, data, tmp_path, monkeypatch)


def seeded(what, seed, data, folder, monkeypatch):
    """Something that a training with this seed does by chance."""
    params = tiny.PARAMS.model_copy(update=SHORT | {"seed": seed, "epochs": 1 + (what == "dropout")})
    if what == "order":
        return [image.tolist() for _, _, image in train_loader(data, params)]
    if what == "patches":
        return Patches(data, params).__getitems__([(0, image, 0) for image in range(8)])[0].tolist()
    if what == "initial weights":
        params = params.model_copy(update={"lr": 0.0})
        fit(params, data, folder, {})
        return torch.load(folder / "best.pt", weights_only=True)["state_dict"]["hyper.last_weight.weight"].tolist()
    states = []
    original = losses.total

    def note(*arguments):  # the random state of a step, before which dropout was drawn
        states.append(torch.initial_seed())
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(losses, "total", note)
        fit(params, data, folder, {})
    assert len(set(states)) == len(states) == 6  # of two epochs
    return states


def test_a_clipped_step_is_no_larger_than_asked_for(data, tmp_path, monkeypatch):
    norms = []
    original = Fit.on_before_zero_grad

    def note(self, optimizer):  # gradients are those of the step that was made
        squares = [parameter.grad.square().sum() for parameter in self.parameters() if parameter.grad is not None]
        norms.extend([float(torch.stack(squares).sum().sqrt())] if squares else [])
        original(self, optimizer)

    monkeypatch.setattr(Fit, "on_before_zero_grad", note)
    fit(tiny.PARAMS.model_copy(update=SHORT | {"clip": 0.01}), data, tmp_path, {})
    assert norms and max(norms) <= 0.01 * (1 + 1e-4)


def test_gradients_of_several_batches_make_one_step(data, tmp_path, monkeypatch):
    steps = []
    original = Fit.optimizer_step

    def note(self, *arguments, **named):
        steps.append(self.global_step)
        original(self, *arguments, **named)

    monkeypatch.setattr(Fit, "optimizer_step", note)
    fit(tiny.PARAMS.model_copy(update={"epochs": 2, "batch_size": 5, "accumulate": 2}), data, tmp_path, {})
    assert len(steps) == 2 * 2  # 4 batches an epoch


def test_a_patch_is_mirrored_where_its_number_says_so_and_only_there(data):
    patches = Patches(data, tiny.PARAMS)
    items = [(epoch, image, 0) for epoch in range(4) for image in range(8)]
    pixels, _, _ = patches.__getitems__(items)
    mirrored = []
    for patch, item in zip(pixels, items, strict=True):
        window, mirror = patches._patch(*item)
        expected = torch.from_numpy(np.array(window[:, ::-1] if mirror else window)).permute(2, 0, 1)
        assert torch.equal(patch, expected)
        mirrored.append(mirror)
    assert 8 <= sum(mirrored) <= 24


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("rule", [{}, {"val_crops": "center"}, {"val_patches": 9}, {"test_crops": "random"}])
def test_the_validation_images_alone_are_validated_by_the_rule_of_the_model(tmp_path, rule, up):
    data = tiny.database(48, sizes=((72, 96), (80, 104)), up=up)
    params = tiny.PARAMS.model_copy(update={"epochs": 1, "seed": 3} | rule)
    train(params, data, tmp_path)
    model = load_model(tmp_path)
    crops = {"crops": params.val_crops or params.test_crops, "patches": params.val_patches or params.test_patches}
    indices = np.flatnonzero(data.table["split"] == "val")
    value = score(model.network, data, indices, **model.options | crops)
    mos = data.table["mos"].to_numpy()[indices]
    truth = (mos if up else 100 - mos) / 100
    row = torch.load(tmp_path / "best.pt", weights_only=True)["history_row"]
    assert row["val_srcc"] == coefficients.srcc(value, truth)
    assert row["val_loss"] == pytest.approx(np.abs(value - truth).mean())


def test_a_monitored_database_is_scored_on_its_test_images_by_the_rule_of_the_model(data, tmp_path):
    other = tiny.database(60)
    params = tiny.PARAMS.model_copy(update={"epochs": 1, "monitor_databases": ["other"], "select_on": "test_srcc"})
    train(params, data, tmp_path, {"other": other})
    model = load_model(tmp_path)
    row = torch.load(tmp_path / "best.pt", weights_only=True)["history_row"]
    for name, database in {"other": other, "test": data}.items():
        indices = np.flatnonzero(database.table["split"] == "test")
        value = score(model.network, database, indices, **model.options)
        truth = database.table["mos"].to_numpy()[indices]
        expected = {"srcc": coefficients.srcc(value, truth), "plcc": coefficients.plcc(value, truth)}
        assert {key: row[f"{name}_{key}"] for key in expected} == pytest.approx(expected)


@pytest.mark.parametrize(("select_on", "best"), [("val_srcc", 2), ("val_plcc", 1), ("val_loss", 3)])
def test_the_model_that_is_kept_is_that_of_the_best_epoch(data, tmp_path, monkeypatch, select_on, best):
    measured = {"val_srcc": [0.1, 0.5, 0.2], "val_plcc": [0.9, 0.1, 0.3], "val_loss": [0.3, 0.2, 0.1]}
    monkeypatch.setattr(Fit, "_validate", lambda self: {key: of[self.current_epoch] for key, of in measured.items()})
    train(tiny.PARAMS.model_copy(update={"select_on": select_on, "save_all_epochs": True}), data, tmp_path)
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert kept["history_row"]["epoch"] == best
    expected = torch.load(tmp_path / "epochs" / f"epoch_{best:03}.pt", weights_only=True)
    assert same(kept["state_dict"].values(), expected["state_dict"].values())


@pytest.mark.parametrize(
    ("select_on", "values", "epochs"),
    [
        ("val_srcc", [0.5, 0.4, 0.3, 0.2, 0.9, 0.1], 3),
        ("val_srcc", [0.1, 0.2, 0.3, 0.3, 0.3, 0.9], 5),
        ("val_loss", [0.5, 0.6, 0.7, 0.2, 0.1, 0.1], 3),
        ("val_loss", [0.5, 0.4, 0.3, 0.3, 0.3, 0.1], 5),
    ],
)
def test_patience_counts_epochs_since_the_best_one(data, tmp_path, monkeypatch, select_on, values, epochs):
    other = dict.fromkeys(["val_loss", "val_plcc", "val_srcc"], 0.0)
    monkeypatch.setattr(Fit, "_validate", lambda self: other | {select_on: values[self.current_epoch]})
    params = tiny.PARAMS.model_copy(update={"epochs": 6, "patience": 2, "select_on": select_on})
    assert len(train(params, data, tmp_path)) == epochs


@pytest.mark.parametrize("which", ["own", "monitored"])
def test_other_labels_are_another_training(data, tmp_path, which):
    params = tiny.PARAMS.model_copy(update={"epochs": 1, "monitor_databases": ["other"]})
    other = dataclasses.replace(tiny.database(24), name="other")
    train(params, data, tmp_path, {"other": other})
    relabelled = dataclasses.replace(data if which == "own" else other, fingerprint="other labels")
    databases = (relabelled, other) if which == "own" else (data, relabelled)
    train(params, databases[0], tmp_path, {"other": databases[1]})
    assert (
        f"training anew: reads data_prep/{relabelled.name}: its contents differ" in (tmp_path / "train.log").read_text()
    )


def test_another_number_of_patches_is_another_training_only_where_validation_follows_it(data, tmp_path):
    log = tmp_path / "train.log"
    params = tiny.PARAMS.model_copy(update={"epochs": 1, "val_crops": "center", "val_patches": 1})
    train(params, data, tmp_path)
    train(params.model_copy(update={"test_patches": 3}), data, tmp_path)
    assert "training anew" not in log.read_text() and load_model(tmp_path).rule == "grid of 3 crops"
    train(params.model_copy(update={"val_patches": None}), data, tmp_path)
    assert "training anew: parameter val_patches: 1 -> None" in log.read_text()
    train(params.model_copy(update={"val_patches": None, "test_patches": 3}), data, tmp_path)
    assert "training anew: parameter test_patches: 6 -> 3" in log.read_text()


def test_the_rates_in_the_history_are_those_with_which_the_epoch_began(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"schedule": "step", "schedule_epochs": 1, "lr": 1e-3, "lr_ratio": 2.0})
    history = train(params, data, tmp_path)
    assert history["lr_backbone"].tolist() == pytest.approx([1e-3, 1e-4, 1e-5])
    assert history["lr_heads"].tolist() == pytest.approx([2e-3, 2e-4, 2e-5])
    assert "lr 1.0e-03 2.0e-03" in (tmp_path / "train.log").read_text().splitlines()[1]


def test_one_cycle_begins_at_a_25th_of_the_rate_in_the_history_too(data, tmp_path):
    history = train(tiny.PARAMS.model_copy(update={"lr": 1e-3}), data, tmp_path)
    assert history["lr_backbone"].iloc[0] == pytest.approx(1e-3 / 25)


def test_a_term_and_a_metric_of_one_name_have_columns_of_their_own(data, tmp_path):
    history = train(tiny.PARAMS.model_copy(update={"epochs": 1, "loss": "l1 + plcc"}), data, tmp_path)
    row = history.iloc[0]
    terms = row["train_loss_l1"] + row["train_loss_plcc"] + tiny.PARAMS.rank_weight * row["train_loss_ranking"]
    assert row["train_loss"] == pytest.approx(terms)
    assert -1 <= row["train_plcc"] <= 1 and row["train_plcc"] != row["train_loss_plcc"]


def test_the_training_loss_is_the_mean_over_all_patches_of_the_epoch(data, tmp_path, monkeypatch):
    errors = []
    validate = Fit._validate

    def note(self):
        prediction, target, *_ = torch.cat(self.seen, dim=1)
        errors.append(float((prediction - target).abs().mean()))
        return validate(self)

    monkeypatch.setattr(Fit, "_validate", note)
    history = train(tiny.PARAMS.model_copy(update={"rank_weight": 0.0, "batch_size": 12}), data, tmp_path)
    assert history["train_loss"].tolist() == pytest.approx(errors)  # of batches of 12 and 8


def test_scores_that_are_not_finite_in_validation_stop_with_epoch_and_images(data, tmp_path, monkeypatch):
    validate = Fit._validate

    def broken(self):
        with torch.no_grad():
            self.model.hyper.last_bias.bias.fill_(torch.nan)
        return validate(self)

    monkeypatch.setattr(Fit, "_validate", broken)
    message = r"not finite after epoch 1 for 10 images of 'tiny' \(val\): 20\.png, .*\.\.\.\. A lower `lr`"
    with pytest.raises(FloatingPointError, match=message):
        train(tiny.PARAMS, data, tmp_path)


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_monitored_database_cannot_take_the_name_of_a_split(name):
    with pytest.raises(ValueError, match=f"'{name}' names a column of the history"):
        tiny.demo(monitor_databases=[name])


def test_a_line_is_that_of_least_squares_unless_it_would_fall():
    generator = np.random.default_rng(0)
    value = generator.normal(-70, 20, 50)
    truth = 0.5 + 0.004 * (value + 70) + generator.normal(0, 0.02, 50)
    expected = np.polynomial.Polynomial.fit(value, truth, 1).convert().coef
    assert fit_line(value, truth) == pytest.approx(expected)
    for flat in (-value, np.full(50, 3.0)):
        intercept, slope = fit_line(flat, truth)
        assert slope == 0 and intercept == pytest.approx(truth.mean())
