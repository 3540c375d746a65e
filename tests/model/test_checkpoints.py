"""Published checkpoints against plain second implementations of their models, and files that do not fit."""

import argparse
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tiny
import torch
from reference_models import Original, Undrawn, as_older_timm, blank, build, content, images, randomise

from iqa.data.pixels import Size
from iqa.model.checkpoints import LAYOUTS, CheckpointError, read, write_original
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import ModelParams

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")]
SQUEEZED = Size(512, 384, keep_aspect=False, filter="bilinear")


def save(values, folder: Path, name="model.pkl") -> Path:
    torch.save(values, folder / name)
    return folder / name


def read_shapes(file: Path):
    """A checkpoint that is read onto the meta device: everything is checked, but no value is loaded."""
    with torch.device("meta"):
        return read(file)


def read_drawn(file: Path):
    """A checkpoint that is read into a network without random numbers of its own, which would all be replaced."""
    with Undrawn():
        return read(file)


@pytest.fixture
def tmp_path():
    """A folder that is removed after each test: pytest keeps its own, and these files are large."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("kind", "high"),
    [
        ("hyperiqa", 100),
        pytest.param("iqa_pytorch", 1, marks=pytest.mark.slow),
        pytest.param("ms_hyperiqa", 100, marks=pytest.mark.slow),
        pytest.param("swin-tiny-last", 100, marks=pytest.mark.slow),
        pytest.param("swin-tiny-concat", 100, marks=pytest.mark.slow),
        ("swin-tiny-attention", 100),
        pytest.param("swin-small-attention", 100, marks=pytest.mark.slow),
        pytest.param("swin-base-attention", 100, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_scores_are_those_of_the_published_network_at_any_size_alone_or_in_a_batch(kind, high, tmp_path):
    with Undrawn():
        reference = build(kind)
    randomise(reference, high)
    model, _ = read_drawn(save(content(kind, reference), tmp_path))
    batches = [images(2, 128, 128), images(1, 128, 160, seed=1), images(1, 256, 192, seed=2)]
    expected = torch.cat([reference(pixels) for pixels in batches])
    together = torch.cat([model(pixels) for pixels in batches])
    alone = torch.cat([model(batches[0][i : i + 1]) for i in range(2)])
    tolerance = 1e-4 if high == 100 else 1e-5
    assert expected.std() > 1000 * tolerance, "the scores are too alike to tell a wrong model by them"
    assert torch.allclose(together * high, expected, rtol=0, atol=tolerance)
    assert torch.allclose(alone * high, expected[:2], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("kind", "high", "size"),
    [
        ("hyperiqa", 100, SQUEEZED),
        ("iqa_pytorch", 1, Size(filter="bilinear", least=225)),
        ("ms_hyperiqa", 100, SQUEEZED),
        ("swin-tiny-attention", 100, SQUEEZED),
    ],
)
def test_a_layout_says_what_its_scores_and_images_are(kind, high, size, tmp_path):
    model, layout = read_shapes(save(blank(kind), tmp_path))
    assert layout.title.startswith(LAYOUTS[kind.split("-")[0]].title)
    assert (layout.high, layout.size, layout.crop) == (high, size, 224)
    assert model.params.output_scale == high
    assert not model.training


@pytest.mark.parametrize(
    ("kind", "tensors", "parameters"),
    [
        ("hyperiqa", 355, 27_375_369),
        ("iqa_pytorch", 355, 27_375_369),
        ("ms_hyperiqa", 374, 27_633_967),
        ("swin-tiny-attention", 210, 29_521_479),
        ("swin-small-attention", 366, 50_839_383),
        ("swin-base-attention", 366, 89_111_941),
    ],
)
def test_files_have_the_known_number_of_tensors_and_parameters(kind, tensors, parameters, tmp_path):
    state = blank(kind)
    assert len(state) == tensors
    assert sum(p.numel() for p in read_shapes(save(state, tmp_path))[0].parameters()) == parameters


@pytest.mark.parametrize("fusion", ["last", "concat", "attention"])
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_size_and_fusion_of_a_swin_model_follow_from_its_tensors(size, fusion, tmp_path):
    model, layout = read_shapes(save(blank(f"swin-{size}-{fusion}"), tmp_path))
    assert model.params.backbone == f"swin_{size}_patch4_window7_224"
    assert model.params.fusion == fusion
    assert layout.title == f"HyperIQA with Swin-{size.title()}, {fusion} fusion"


def test_dropout_is_set_where_it_is_part_of_the_published_design(tmp_path):
    params = read_shapes(save(blank("ms_hyperiqa"), tmp_path))[0].params
    assert (params.dropout, params.dropout_layers) == (0.5, 1)
    params = read_shapes(save(blank("swin-tiny-attention"), tmp_path))[0].params
    assert (params.attention_dropout, params.dropout, params.semantic_dropout, params.drop_path) == (0.5, 0, 0, 0)


@pytest.mark.parametrize("dotted_only", [False, True])
def test_files_of_older_timm_versions_give_the_same_model(dotted_only, tmp_path):
    state = blank("swin-tiny-last", numbered=True)
    older = {name.replace("layers_", "layers."): value for name, value in state.items()}
    older = older if dotted_only else as_older_timm(state)
    new, old = (read_drawn(save(each, tmp_path))[0].state_dict() for each in (state, older))
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params": state},
        lambda state: {"params_ema": state},
        lambda state: {"params": state, "params_ema": {"another": torch.zeros(1)}},
        lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.zeros(1)}}}, "epoch": 7},
        lambda state: {"model_hyper": state, "srcc": 0.9},
        lambda state: {"state_dict": state, "params": {"lr": 0.1}},
        lambda state: {"model_state_dict": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
        lambda state: {f"net.{name}": value for name, value in state.items()},
        lambda state: {f"module.model._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {name.replace("res.", "res._orig_mod.module."): value for name, value in state.items()},
        lambda state: {"state_dict": {"generator": state}, "state_dict_ema": None},
        lambda state: {
            "ema": {"shadow": state, "decay": 0.99},
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}},
        },
        lambda state: {"net": state, "best": np.float64(0.9), "epoch": np.int64(3), "done": np.bool_(True)},
        lambda state: state | {"total_ops": torch.zeros(1), "res.conv1.total_params": torch.zeros(1).double()},
    ],
)
def test_wrapped_tensors_are_found(wrap, tmp_path):
    assert read_shapes(save(wrap(blank("hyperiqa")), tmp_path))[1] == LAYOUTS["hyperiqa"]


def test_several_models_in_one_file_are_an_error_that_names_them(tmp_path):
    state = blank("hyperiqa")
    with pytest.raises(
        CheckpointError, match=r"model\.pkl: holds several models \(teacher, student\); save the one to"
    ):
        read_shapes(save({"teacher": state, "student": state}, tmp_path))
    assert read_shapes(save({"teacher": state, "model": state}, tmp_path))[1] == LAYOUTS["hyperiqa"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda value: value * torch.nan, "NaN or infinite: fc5w_fc.weight; fetch the file again"),
        (lambda value: value.double() + 1e300, "NaN or infinite: fc5w_fc.weight"),
        (lambda value: value.to(torch.int8), "wrong type: fc5w_fc.weight int8; fetch the file again"),
        (lambda value: value.bool(), "wrong type: fc5w_fc.weight bool"),
        (lambda value: value.to(torch.complex64), "wrong type: fc5w_fc.weight complex64"),
        (lambda value: value.to("meta"), "wrong type: fc5w_fc.weight float32, without values"),
        (lambda value: value.to_sparse(), "wrong type: fc5w_fc.weight float32, sparse"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "wrong type: fc5w_fc.weight qint8"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_an_error_that_names_the_tensor(damage, message, tmp_path):
    state = blank("hyperiqa", numbered=True)
    state["fc5w_fc.weight"] = damage(torch.rand(state["fc5w_fc.weight"].shape))
    with pytest.raises(CheckpointError, match=rf"odd\.pkl: {message}"):
        read_drawn(save(state, tmp_path, "odd.pkl"))


def test_half_precision_is_read(tmp_path):
    state = {
        name: value.half() if value.is_floating_point() else value for name, value in blank("hyperiqa", True).items()
    }
    weight = read_drawn(save(state, tmp_path))[0].hyper.last_bias.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, state["fc5b_fc.weight"].float())


def test_a_byte_that_changed_in_a_file_is_an_error(tmp_path):
    file = save({"weight": torch.rand(9999)}, tmp_path, "odd.pkl")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd\.pkl: is damaged: the checksum of its part odd/data/\d+ is wrong"):
        read(file)


def test_a_file_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    file = save(blank("hyperiqa"), tmp_path)
    torch.serialization.set_crc32_options(True)
    assert read_shapes(file)[1] == LAYOUTS["hyperiqa"]


def test_many_tensors_that_do_not_fit_are_counted(tmp_path):
    with pytest.raises(CheckpointError, match=r"missing: .*, \.\.\. \(301 in all\)") as caught:
        read_shapes(save({"res.conv1.weight": blank("hyperiqa")["res.conv1.weight"]}, tmp_path))
    assert len(str(caught.value)) < 600


def test_wrapped_tensors_arrive_in_the_model(tmp_path):
    state = blank("hyperiqa", numbered=True)
    wrapped = {"model": {f"module.{name}": value for name, value in state.items()}}
    bare, unwrapped = (read_drawn(save(each, tmp_path))[0].state_dict() for each in (state, wrapped))
    assert all(torch.equal(bare[name], unwrapped[name]) for name in bare)
    assert sorted(value.flatten()[0].item() for value in bare.values()) == list(range(1, len(state) + 1))


def test_counters_of_training_steps_may_be_missing(tmp_path):
    state = blank("hyperiqa", numbered=True)
    lean = {name: value for name, value in state.items() if "num_batches" not in name}
    full, filled = (read_drawn(save(each, tmp_path))[0].state_dict() for each in (state, lean))
    for name, value in filled.items():
        assert value == 0 if "num_batches" in name else torch.equal(value, full[name])


@pytest.mark.parametrize(
    ("kind", "missing", "misshapen"),
    [
        ("hyperiqa", ["fc5w_fc.bias", "res.layer3.5.bn2.running_var"], "conv1.4.weight"),
        ("iqa_pytorch", ["fc_w_modules.4.2.bias", "base_model.bn1.weight"], "lda_modules.3.2.weight"),
        ("ms_hyperiqa", ["attention_p3.channel_attention.fc.2.weight", "fpn.smooth_conv4.bias"], "fusion_conv.2.bias"),
        ("swin-tiny-concat", ["swin.backbone.layers_1.downsample.norm.bias"], "conv1.0.weight"),
        ("swin-tiny-attention", ["conv1.0.weight", "swin.backbone.patch_embed.proj.weight"], "fc1w_conv.weight"),
        ("older swin-base-attention", ["swin.backbone.layers.0.downsample.norm.bias"], "swin.lda2_fc.weight"),
    ],
)
def test_tensors_that_do_not_fit_are_listed_by_their_names_in_the_file(kind, missing, misshapen, tmp_path):
    state = as_older_timm(blank(kind.split()[1])) if kind.startswith("older") else blank(kind)
    shape = str(tuple(state[misshapen].shape)).replace("(", "").replace(")", "")
    for name in missing:
        del state[name]
    state |= {misshapen: torch.zeros(3, 5), "fc6w_conv.weight": torch.zeros(1), "head.scale": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        read_shapes(save(state, tmp_path, "odd.pkl"))
    message = str(caught.value)
    head, *parts = message.split("; ")
    assert "odd.pkl: missing: " in head
    assert sorted(head.split("missing: ")[1].split(", ")) == sorted(missing)
    assert parts == [
        "unexpected: fc6w_conv.weight, head.scale",
        f"wrong shape: {misshapen} (3, 5) instead of ({shape})",
    ]


def test_an_unknown_layout_is_an_error_that_shows_its_names_and_the_known_ones(tmp_path):
    file = save({"backbone.stem.weight": torch.zeros(1), "head.bias": torch.zeros(1)}, tmp_path, "odd.pkl")
    with pytest.raises(CheckpointError, match=r"odd\.pkl: unknown layout.*backbone\.stem\.weight, head\.bias.*swin\."):
        read(file)


def test_an_own_training_file_is_no_published_layout(tmp_path):
    state = HyperIQA(tiny.demo().architecture()).state_dict()
    file = save({"params": {"run": "main_s1"}, "state_dict": state}, tmp_path)
    with pytest.raises(CheckpointError, match=r"unknown layout.*backbone\.body"):
        read(file)


def test_an_unknown_size_of_swin_is_an_error_that_shows_it(tmp_path):
    state = blank("swin-tiny-last")
    width = "swin.backbone.patch_embed.proj.weight"
    state = {width: torch.zeros(192, 3, 4, 4)} | {name: state[name] for name in state if name != width}
    with pytest.raises(CheckpointError, match=r"odd\.pkl: unknown size of Swin: .*patch_embed\.\* 192 wide, 6 blocks"):
        read(save(state, tmp_path, "odd.pkl"))


@pytest.mark.parametrize("written", [b"", b"hello", b"<html>not found</html>", b"\xff" * 64, b"PK\x03\x04 cut"])
def test_a_file_that_torch_did_not_write_is_an_error_that_names_it(written, tmp_path):
    file = tmp_path / "odd.pkl"
    file.write_bytes(written)
    with pytest.raises(CheckpointError, match=r"odd\.pkl: is damaged, or is no file of tensors"):
        read(file)


@pytest.mark.parametrize("name", ["absent.pkl", "."])
def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(name, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: "):
        read(tmp_path / name)


@pytest.mark.parametrize("modern", [True, False])
def test_a_file_with_pickled_objects_is_refused_and_names_their_class(modern, tmp_path):
    file = tmp_path / "odd.pkl"
    values = {"params": blank("hyperiqa"), "args": argparse.Namespace(lr=0.1)}
    torch.save(values, file, _use_new_zipfile_serialization=modern)
    with pytest.raises(CheckpointError, match=r"odd\.pkl: holds a pickled argparse\.Namespace"):
        read(file)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_reading_never_runs_what_a_file_holds(tmp_path):
    mark = tmp_path / "mark"
    file = save({"params": Trap(mark)}, tmp_path)
    with pytest.raises(CheckpointError, match="holds a pickled"):
        read(file)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([torch.zeros(1)], "holds no named tensors"),
        ({}, "holds no named tensors"),
        ({"res.conv1.weight": torch.zeros(1), "epoch": 3, "best": 0.9}, "holds what is no tensor: epoch, best"),
        ({0: torch.zeros(1)}, "unknown layout"),
    ],
)
def test_a_file_of_something_else_than_named_tensors_is_an_error(values, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        read(save(values, tmp_path))


def test_reading_writing_and_reading_changes_no_bit(tmp_path):
    state = {name: torch.rand(value.shape).to(value.dtype) for name, value in blank("hyperiqa").items()}
    file = save(state, tmp_path)
    first, _ = read_drawn(file)
    write_original(first, tmp_path / "written.pkl")
    before, after = (torch.load(each, weights_only=True) for each in (file, tmp_path / "written.pkl"))
    assert len(after) == 355 and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    second = read_drawn(tmp_path / "written.pkl")[0].state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.state_dict().items())


@torch.no_grad()
def test_an_own_model_is_written_so_that_it_scores_0_to_100(tmp_path):
    torch.manual_seed(3)
    model = HyperIQA(ModelParams(backbone="resnet50.a1_in1k", dropout=0.3, drop_path=0.1)).eval()
    write_original(model, tmp_path / "own.pkl")
    with Undrawn():
        reference = Original().eval()
    reference.load_state_dict(torch.load(tmp_path / "own.pkl", weights_only=True))
    pixels = images(2, 128, 128)
    scores = model(pixels)
    assert (scores[0] - scores[1]).abs() > 1e-3
    assert torch.allclose(reference(pixels), 100 * scores, atol=1e-4)
    assert torch.allclose(read_drawn(tmp_path / "own.pkl")[0](pixels), scores, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"backbone": "resnet18"}, ["backbone 'resnet18' (not 'resnet50')"]),
        ({"fusion": "concat", "std": [0.5, 0.5, 0.5]}, ["fusion 'concat' (not 'last')", "std [0.5, 0.5, 0.5]"]),
        ({"head": "static"}, ["head 'static' (not 'hyper')"]),
        ({"target_input": "pooled", "semantic_widths": [64]}, ["target_input 'pooled'", "semantic_widths [64]"]),
    ],
)
def test_a_model_that_the_original_layout_has_no_place_for_is_an_error_that_says_why(changes, named, tmp_path):
    with torch.device("meta"):
        model = HyperIQA(ModelParams(**changes))
    with pytest.raises(CheckpointError) as caught:
        write_original(model, tmp_path / "own.pkl")
    assert all(part in str(caught.value) for part in ["own.pkl", *named])
    assert not (tmp_path / "own.pkl").exists()
