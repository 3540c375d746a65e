"""ONNX files against PyTorch, with onnxruntime, at sizes and batch sizes that the export itself does not try."""

import copy
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d

from iqa.data.pixels import Size
from iqa.model import export as exporting
from iqa.model import hyperiqa, pooling
from iqa.model.export import ExportError, export
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, Scale
from iqa.study import paths

SMALL = tiny.PARAMS.architecture()
LEAN = {"backbone": "convnext_atto", "backbone_args": {"depths": [0, 0, 0, 0], "dims": [8, 16, 24, 32]}}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 1, 1], "window_size": 2, "img_size": 64}
SCALE = Scale(1, 5, True, "Tiny")
SIZES = [(1, 64, 64), (2, 101, 131), (5, 96, 77), (1, 150, 225)]


def predictor(scale=SCALE, input="rgb", crop=64, **changes) -> Predictor:
    """A model whose scores depend on every part of it by more than the differences that are allowed."""
    torch.manual_seed(0)
    network = HyperIQA(SMALL.model_copy(update=LEAN | changes)).eval()
    with torch.no_grad():
        for project in network.local.modules():
            if isinstance(project, nn.Linear):
                project.weight *= 10
    network.to(memory_format=torch.channels_last)
    return Predictor(network, "demo/tiny", input, crop, Size(384, 512), scale, {}, synthetic=True)


def run(file, pixels):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"pixels": pixels.numpy()})
    return scores


def images(batch, height, width):
    """Noise that differs in strength and brightness."""
    generator = torch.manual_seed(batch + height + width)
    noise = torch.randn(batch, 3, height, width, generator=generator)
    strength, light = torch.rand(2, batch, 1, 1, 1, generator=generator)
    return (80 + 90 * light + (10 + 60 * strength) * noise).clip(0, 255).to(torch.uint8)


def assert_same(file, model, sizes, allowed=1e-5):
    """Equal scores of the file and the model, on its scale, where those of the images of a batch differ."""
    unit = model.scale.high - model.scale.low
    for size in sizes:
        pixels = images(*size)
        with torch.inference_mode():
            expected = model(pixels).numpy()
        found = run(file, pixels)
        assert found.shape == expected.shape == size[:1]
        np.testing.assert_allclose(found, expected, rtol=0, atol=allowed * unit)
        assert size[0] == 1 or np.ptp(expected) > 100 * allowed * unit


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model with MSCN input on a scale whose low end is best, its file and what was checked."""
    model = predictor(Scale(0, 9, False, "Tiny"), "mscn", mean=[0.5, 0.4, 0.3], head="linear")
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    return model, file, export(model, file)


@pytest.mark.parametrize("length", range(1, 41))
def test_the_matrix_form_of_pooling_equals_adaptive_pooling(length):
    x = torch.rand(2, 3, length, 7, dtype=torch.float64)
    for grid in range(1, 9):
        rows, columns = pooling._cells(length, grid, x), pooling._cells(7, grid, x)
        assert torch.allclose(rows @ x @ columns.T, adaptive_avg_pool2d(x, grid), rtol=1e-12)


@pytest.mark.slow
def test_a_file_scores_as_the_model_on_its_own_scale(exported):
    model, file, _ = exported
    assert_same(file, model, SIZES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"fusion": "last", "target_input": "pooled"},
        {"fusion": "attention"},
        {"fusion": "pooled", "target_input": "pooled"},
        {"fusion": "fpn_cbam"},
        {"head": "static"},
        {"fusion": "concat", "backbone": SMALL.backbone, "backbone_args": SMALL.backbone_args},
    ],  # head linear: `exported`
)
def test_every_head_fusion_and_target_input_scores_as_the_model_which_is_left_alone_in_silence(
    changes, tmp_path, capfd, recwarn
):
    model = predictor(**changes)
    before, state = copy.deepcopy(model.network.state_dict()), torch.get_rng_state()
    assert export(model, tmp_path / "model.onnx")["dynamic"]
    assert capfd.readouterr() == ("", "") and not list(recwarn)
    assert torch.equal(torch.get_rng_state(), state)
    after = model.network.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    convolution = next(weight for weight in model.network.backbone.parameters() if weight.ndim == 4)
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert_same(tmp_path / "model.onnx", model, SIZES)


def test_the_checks_say_which_sizes_and_batches_were_compared(exported):
    _, file, checked = exported
    assert checked["file"] == str(file) and checked["bytes"] == file.stat().st_size
    assert checked["dynamic"] and checked["inputs"] == {"pixels": ["batch", 3, "height", "width"]}
    compared = {(check["batch"], check["height"], check["width"]) for check in checked["checks"]}
    assert {(1, 64, 64), (3, 64, 64), (1, 96, 139), (3, 96, 139)} <= compared
    assert max(height for _, height, _ in compared) > 64 < max(width for _, _, width in compared)
    assert all(0 <= check["difference"] <= 1e-4 for check in checked["checks"])


def test_the_file_is_valid_and_complete_in_itself(exported):
    _, file, checked = exported
    assert [each.name for each in file.parent.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(file, full_check=True)
    written = onnx.load(file, load_external_data=False)
    assert [(each.domain, each.version) for each in written.opset_import] == [("", checked["opset"])]
    assert written.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [axis.dim_param or axis.dim_value for axis in written.graph.input[0].type.tensor_type.shape.dim] == (
        checked["inputs"]["pixels"]
    )


def test_the_metadata_say_what_goes_in_and_what_comes_out(exported):
    _, file, _ = exported
    found = {each.key: each.value for each in onnx.load(file).metadata_props}
    assert found["name"] == "demo/tiny" and found["input"] == "mscn" and "MSCN" in found["pixels"]
    assert found["score"] == "(batch,), 9 (worst) to 0 (best), the scale of Tiny" and found["database"] == "Tiny"
    values = {key: json.loads(found[key]) for key in ("crop", "size", "score_low", "score_high", "higher_is_better")}
    size = vars(Size(384, 512))
    assert values == {"crop": 64, "size": size, "score_low": 0, "score_high": 9, "higher_is_better": False}
    assert json.loads(found["synthetic"]) is True
    assert json.loads(found["mean"]) == [0.5, 0.4, 0.3] and json.loads(found["std"]) == SMALL.std


def test_the_file_does_not_tell_where_it_was_made(exported):
    _, file, _ = exported
    written = file.read_bytes()
    assert str(paths.ROOT).encode() not in written and b".py" not in written


@pytest.mark.slow
def test_given_height_and_width_are_fixed(tmp_path):
    model, file = predictor(), tmp_path / "model.onnx"
    checked = export(model, file, 70, 90)
    assert not checked["dynamic"] and checked["inputs"] == {"pixels": ["batch", 3, 70, 90]}
    assert {(check["height"], check["width"]) for check in checked["checks"]} == {(70, 90)}
    assert_same(file, model, [(1, 70, 90), (4, 70, 90)])
    with pytest.raises(Exception, match="invalid dimensions"):
        run(file, images(1, 90, 70))


@pytest.mark.slow
def test_a_network_of_windows_has_the_size_of_its_crops(tmp_path):
    arguments = SWIN | {"strict_img_size": False}
    model = predictor(backbone="swin_tiny_patch4_window7_224", backbone_args=arguments, fusion="attention")
    checked = export(model, tmp_path / "model.onnx")
    assert not checked["dynamic"] and checked["inputs"] == {"pixels": ["batch", 3, 64, 64]}
    assert_same(tmp_path / "model.onnx", model, [(1, 64, 64), (4, 64, 64)])


@pytest.mark.slow
def test_scores_that_differ_from_those_of_the_model_leave_no_file(tmp_path, monkeypatch):
    means = pooling.means
    monkeypatch.setattr(hyperiqa, "means", lambda maps: means(maps) * (1 - 0.1 * torch.compiler.is_exporting()))
    with pytest.raises(ExportError, match=r"demo/tiny: 1 x 3 x 64 x 64 pixels get other scores.*nothing is written"):
        export(predictor(head="linear"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_scores_that_are_not_numbers_are_refused_and_an_earlier_file_stays(tmp_path):
    model, file = predictor(head="linear"), tmp_path / "model.onnx"
    file.write_bytes(b"earlier")
    with torch.no_grad():
        model.network.target.layers[-1].bias.fill_(torch.nan)
    with pytest.raises(ExportError, match="by up to nan"):
        export(model, file, 64, 64)
    assert file.read_bytes() == b"earlier" and len(list(tmp_path.iterdir())) == 1


def test_a_network_that_needs_a_known_size_is_an_error_that_says_so(tmp_path):
    model = predictor()

    def forward(maps):
        if maps[0].shape[2] % 5:
            raise ValueError("only multiples of 20")
        return type(model.network.fusion).forward(model.network.fusion, maps)

    model.network.fusion.forward = forward
    with pytest.raises(ExportError, match=r"demo/tiny: PyTorch cannot export.* 20; give a height and a width"):
        export(model, tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"multiples of 20$"):
        export(model, tmp_path / "model.onnx", 64, 64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("file", "size", "message"),
    [
        ("absent/model.onnx", (), "absent/model.onnx cannot be written"),
        (".", (), "it is a folder"),
        ("model.onnx", (64,), "both height and width, or neither"),
    ],
)
def test_wrong_files_and_sizes_are_errors(file, size, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(predictor(), tmp_path / file, *size)


def test_weights_beyond_what_one_file_holds_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LARGEST", 1000)
    with pytest.raises(ExportError, match="demo/tiny is too large"):
        export(predictor(), tmp_path / "model.onnx")


def test_same_padding_equals_that_of_timm_at_every_size(tmp_path):
    torch.manual_seed(0)
    kernels = [(1, 2), (3, 2), (5, 2), (7, 3)]  # and strides
    convs = [Conv2dSame(4, 6, kernel, stride, groups=2, bias=kernel > 3) for kernel, stride in kernels]
    same = nn.ModuleList(map(exporting._OnnxSame, convs))
    same.forward = lambda x: torch.cat([conv(x).flatten() for conv in same])
    free = ({0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    graph = torch.export.export(same, (torch.rand(2, 4, 33, 40),), dynamic_shapes=free)
    torch.onnx.export(graph, input_names=["pixels"], dynamo=True, verbose=False).save(tmp_path / "conv.onnx")
    for height in range(20, 30):
        x = torch.rand(1, 4, height, height + 7)
        expected = torch.cat([conv(x).detach().flatten() for conv in convs])
        np.testing.assert_allclose(run(tmp_path / "conv.onnx", x), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [("mobilenetv2_100", {"pad_type": "same"}), ("convnext_atto", {"depths": [1, 1, 1, 1]})],
)
def test_published_backbones_take_any_size(backbone, arguments, tmp_path):
    model = predictor(backbone=backbone, backbone_args=arguments, head="linear")
    assert export(model, tmp_path / "model.onnx")["dynamic"]
    assert_same(tmp_path / "model.onnx", model, SIZES)
