"""The model against the numbers that its definition implies, and against a plain second implementation."""

import argparse
from itertools import pairwise

import numpy as np
import pytest
import timm
import tiny
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, linear

from iqa.model.architecture import describe
from iqa.model.backbone import BackboneError
from iqa.model.fusion import FUSIONS, Concat
from iqa.model.heads import HyperNetwork, target_network
from iqa.model.hyperiqa import TARGET_INPUTS, HyperIQA
from iqa.model.params import ModelParams
from iqa.model.tensors import CheckpointError
from iqa.study import param_files
from iqa.training.params import TrainParams

SMALL = tiny.demo().architecture()


def images(count=2, height=96, width=96, seed=0):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.manual_seed(seed))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return HyperIQA(SMALL).eval()


@pytest.mark.parametrize(
    ("run", "millions"),
    [
        ("hyperiqa_s1", 27.375369),
        ("ms_hyperiqa_s1", 27.633967),
        ("swin_tiny_last_s1", 28.98),
        ("swin_tiny_s1", 29.32),
        ("swin_tiny_attention_s1", 29.52),
        ("swin_small_s1", 50.64),
        ("swin_small_attention_s1", 50.84),
        ("swin_base_s1", 88.85),
        ("swin_base_attention_s1", 89.11),
    ],
)
def test_parameter_counts_are_those_of_the_published_models(run, millions):
    params = param_files.load(TrainParams, "koniq10k", run).architecture()
    with torch.device("meta"):
        count = sum(p.numel() for p in HyperIQA(params).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005 if millions == round(millions, 2) else 1e-9)


def test_scores_equal_a_plain_implementation_of_the_paper():
    torch.manual_seed(1)
    params = ModelParams(backbone="resnet18", semantic_widths=[64, 32])
    model = HyperIQA(params).eval().double()
    pixels = torch.rand(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        maps = model.backbone(model.normalise(pixels))
        assert [m.shape[-1] for m in maps] == [56, 28, 14, 7]
        vector = []
        for level, reduce, project in zip(maps[:3], model.local.reduce, model.local.project, strict=False):
            vector.append(linear(avg_pool2d(conv2d(level, reduce.weight), 7).flatten(1), project.weight, project.bias))
        last = model.local.project[3]
        vector.append(linear(avg_pool2d(maps[3], 7).flatten(1), last.weight, last.bias))
        vector = torch.cat(vector, 1)

        semantic = maps[3]
        for layer in model.semantic:
            if isinstance(layer, nn.Conv2d):
                semantic = conv2d(semantic, layer.weight, layer.bias).relu()
        pooled = semantic.mean((2, 3))
        expected = []
        for image in range(2):
            x = vector[image]
            for weight, bias, (out, inside) in zip(
                model.hyper.weights, model.hyper.biases, model.hyper.shapes, strict=True
            ):
                matrix = weight(semantic[image : image + 1]).reshape(out, inside)
                x = torch.sigmoid(matrix @ x + bias(pooled[image]))
            expected.append(model.hyper.last_weight(pooled[image]) @ x + model.hyper.last_bias(pooled[image])[0])
        assert torch.allclose(model(pixels), torch.stack(expected), rtol=1e-9)


def hyper_network(channels, grid, widths):
    changes = {"semantic_channels": channels, "semantic_grid": grid, "target_widths": widths}
    return HyperNetwork(SMALL.model_copy(update=changes))


def test_grouped_convolution_gives_the_same_target_network():
    torch.manual_seed(0)
    layers = hyper_network(12, 7, [28, 14, 7])(torch.rand(3, 12, 7, 7))
    local = torch.rand(3, 28)
    x = local.reshape(1, -1, 1, 1)
    for number, (weight, bias) in enumerate(layers):
        x = conv2d(x, weight.reshape(-1, weight.shape[2], 1, 1), bias.flatten(), groups=3)
        x = torch.sigmoid(x) if number < len(layers) - 1 else x
    assert torch.allclose(target_network(local, layers), x.flatten(), atol=1e-6)


@pytest.mark.parametrize("size", [(96, 96), (128, 160), (192, 256)])
def test_a_batch_of_one_scores_as_in_a_batch_of_many(small, size):
    pixels = images(5, *size)
    with torch.no_grad():
        together, alone = small(pixels), torch.cat([small(pixels[i : i + 1]) for i in range(5)])
    assert together.shape == (5,)
    assert torch.allclose(together, alone, atol=1e-5)


def test_uint8_and_float_pixels_give_the_same_score(small):
    pixels = images()
    with torch.no_grad():
        assert torch.allclose(small(pixels), small(pixels / 255), atol=1e-6)


@pytest.mark.parametrize("target_input", sorted(TARGET_INPUTS))
@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_parameter_learns(fusion, target_input):
    torch.manual_seed(0)
    changes = {"fusion": fusion, "target_input": target_input, "fpn_channels": 32}
    if target_input == "means":
        changes["target_widths"] = [sum(HyperIQA(SMALL).backbone.channels), *SMALL.target_widths[1:]]
    model = HyperIQA(SMALL.model_copy(update=changes))
    model(images()).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_fusion_takes_images_of_any_size_and_a_batch_of_one(fusion):
    torch.manual_seed(0)
    model = HyperIQA(SMALL.model_copy(update={"fusion": fusion, "fpn_channels": 32})).eval()
    for size in ((96, 96), (100, 131), (192, 256)):
        pixels = images(3, *size)
        with torch.no_grad():
            together, alone = model(pixels), torch.cat([model(pixels[i : i + 1]) for i in range(3)])
        assert torch.allclose(together, alone, atol=1e-5)
        assert together.unique().numel() == 3


def test_attention_weighs_the_scales_of_each_image():
    torch.manual_seed(0)
    model = HyperIQA(SMALL.model_copy(update={"fusion": "attention"})).eval()
    with torch.no_grad():
        maps = model.backbone(model.normalise(images(3)))
        weights = model.fusion.scale_weights(maps)
        fused = model.fusion(maps)
    assert weights.shape == (3, 4)
    assert torch.allclose(weights.sum(1), torch.ones(3))
    plain = Concat(model.backbone.channels, SMALL)(maps)
    expected = plain * weights.repeat_interleave(torch.tensor(model.backbone.channels), dim=1)[:, :, None, None]
    assert torch.allclose(fused, expected, atol=1e-6)


def test_channel_last_maps_are_told_by_the_network_not_by_their_shape():
    swin = {"backbone": "swin_tiny_patch4_window7_224", "backbone_args": {"strict_img_size": False}}
    with torch.device("meta"):
        finest = HyperIQA(SMALL.model_copy(update=swin)).eval().backbone(torch.rand(1, 3, 384, 320))[0]
    assert finest.shape == (1, 96, 96, 80)  # as many rows as channels


def test_dropout_acts_where_the_variants_have_it():
    layers = [(torch.zeros(2, 8, 8), torch.full((2, 8, 1), 50.0)) for _ in range(4)]
    last = (torch.ones(2, 1, 8), torch.zeros(2, 1, 1))
    torch.manual_seed(0)
    assert torch.equal(target_network(torch.rand(2, 8), [*layers, last]), torch.tensor([8.0, 8.0]))
    # saturated sigmoids forget the dropout of the layers before: only the one after the last layer shows
    assert torch.equal(target_network(torch.rand(2, 8), [*layers, last], 0.5, 3), torch.tensor([8.0, 8.0]))
    assert not torch.equal(target_network(torch.rand(2, 8), [*layers, last], 0.5, 4), torch.tensor([8.0, 8.0]))


def test_a_model_on_a_0_to_100_scale_is_read_on_0_to_1():
    torch.manual_seed(0)
    model = HyperIQA(SMALL).eval()
    scaled = HyperIQA(SMALL.model_copy(update={"output_scale": 100.0})).eval()
    scaled.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.allclose(scaled(images()), model(images()) / 100)


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_timm_backbones_of_every_memory_order_give_channels_first_maps(backbone):
    params = SMALL.model_copy(update={"backbone": backbone, "backbone_args": {}})
    with torch.device("meta"):
        levels = describe(HyperIQA(params), 224, 224)["levels"]
    assert [(level["height"], level["width"]) for level in levels] == [(56, 56), (28, 28), (14, 14), (7, 7)]


def test_a_backbone_without_four_levels_says_which_it_has():
    with pytest.raises(BackboneError, match=r"levels at strides \[16, 16, 16\]"):
        HyperIQA(ModelParams(backbone="vit_tiny_patch16_224"))


def test_an_unknown_backbone_names_its_neighbours():
    with pytest.raises(BackboneError, match=r"resnet5000.*not a timm model"):
        HyperIQA(ModelParams(backbone="resnet5000"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wings": 2}, r"backbone 'resnet10t' cannot be built: .*wings.*; correct 'backbone_args'"),
        ({"channels": "many"}, r"backbone 'resnet10t' cannot be built: .*; correct 'backbone_args'"),
    ],
)
def test_arguments_that_a_backbone_does_not_take_are_an_error_that_names_them(arguments, message):
    with pytest.raises(BackboneError, match=message):
        HyperIQA(SMALL.model_copy(update={"backbone_args": arguments}))


@pytest.mark.parametrize(
    ("arguments", "setter"),
    [
        ({"pretrained": True}, "`pretrained`"),
        ({"features_only": False}, "the model"),
        ({"drop_path_rate": 0.1}, "`drop_path`"),
        ({"checkpoint_path": "x.pth"}, "`weights`"),
        ({"in_chans": 1}, "the model"),
    ],
)
def test_arguments_of_a_backbone_that_others_set_are_refused(arguments, setter):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"remove '{name}', which is set by {setter}"):
        ModelParams(backbone_args=arguments)


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        ("swin_tiny_patch4_window7_224", (384, 512), "fails on images of 384x512 .*strict_img_size: false"),
        ("resnet10t", (0, 64), "fails on images of 0x64 "),
    ],
)
def test_a_backbone_that_takes_no_images_of_a_size_is_an_error_with_the_remedy(backbone, size, message):
    with torch.device("meta"):
        model = HyperIQA(SMALL.model_copy(update={"backbone": backbone, "backbone_args": {}}))
        with pytest.raises(BackboneError, match=f"backbone '{backbone}' {message}"):
            model.eval()(torch.zeros(1, 3, *size))


def test_published_weights_that_cannot_be_had_are_an_error_with_the_remedy(monkeypatch):
    def offline(*arguments, **options):
        raise OSError("An error happened while trying to locate the file\nplease check your connection")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(BackboneError, match=r"^the weights of backbone 'resnet10t' cannot be loaded: .*`weights` to a"):
        HyperIQA(SMALL, pretrained=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged, or is no file of tensors"),
        (b"eleven letters", "is damaged, or is no file of tensors"),
        ([torch.zeros(1)], "does not fit backbone 'resnet10t': holds no named tensors"),
        ({"conv1.0.weight": torch.full((24, 3, 3, 3), torch.nan)}, "does not fit backbone 'resnet10t': missing"),
        ({"model": argparse.Namespace()}, r"holds a pickled argparse\.Namespace, which could run code"),
    ],
)
def test_weights_that_are_no_tensors_are_an_error_that_names_the_file(content, message, tmp_path):
    file = tmp_path / "other.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(CheckpointError, match=rf"other\.pth: {message}") as caught:
        HyperIQA(SMALL, weights=file)
    assert "weights_only" not in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"epoch": 3, "ema": {f"module._orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {"net": {f"net.model.{name}": value for name, value in state.items()}, "best": np.float64(0.9)},
    ],
)
def test_wrapped_weights_arrive_in_the_backbone(wrap, tmp_path):
    torch.manual_seed(5)
    state = timm.create_model("resnet10t", **SMALL.backbone_args).state_dict()
    torch.save(wrap(state), tmp_path / "weights.pth")
    loaded = HyperIQA(SMALL, weights=tmp_path / "weights.pth").backbone.body.state_dict()
    assert loaded and all(torch.equal(value, state[name]) for name, value in loaded.items())


def test_weights_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth: `weights` is no file"):
        HyperIQA(SMALL, weights=tmp_path / "absent.pth")


def test_weights_that_do_not_fit_are_an_error_that_lists_the_tensors(tmp_path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"other\.pth: does not fit backbone 'resnet10t': missing: .*conv1\.0\.weight"
    ):
        HyperIQA(SMALL, weights=tmp_path / "other.pth")


def test_a_weights_file_arrives_in_the_backbone_with_every_tensor(tmp_path):
    whole = timm.create_model(SMALL.backbone, **SMALL.backbone_args)
    saved = {name: torch.full_like(value, place) for place, (name, value) in enumerate(whole.state_dict().items(), 1)}
    torch.save(saved, tmp_path / "weights.pth")
    loaded = HyperIQA(SMALL, weights=tmp_path / "weights.pth").backbone.body.state_dict()
    assert loaded and all(torch.equal(value, saved[name]) for name, value in loaded.items())


def test_local_weights_arrive_in_the_backbone(shared):
    file = shared / "weights" / "mobilenetv2_100_imagenet.pth"
    params = SMALL.model_copy(update={"backbone": "mobilenetv2_100", "backbone_args": {"pad_type": "same"}})
    loaded = HyperIQA(params, weights=file).backbone.body.state_dict()
    saved = torch.load(file, weights_only=True)
    assert loaded and all(torch.equal(value, saved[name]) for name, value in loaded.items())


def test_generated_weights_that_do_not_fill_the_map_evenly_are_its_first_values():
    torch.manual_seed(0)
    network, semantic = hyper_network(12, 4, [65, 33, 5]), torch.rand(2, 12, 4, 4)
    assert [weight.out_channels for weight in network.weights] == [135, 11]  # 65 * 33 and 33 * 5 over 16, rounded up
    for (weight, _), convolution, (out, inside) in zip(
        network(semantic)[:2], network.weights, network.shapes, strict=True
    ):
        values = convolution(semantic).flatten(1)
        assert torch.equal(weight.flatten(1), values[:, : out * inside])


def test_means_as_target_input_need_a_target_network_of_their_width():
    channels = sum(HyperIQA(SMALL).backbone.channels)
    with pytest.raises(ValueError, match=rf"target_widths\[0\] is 64; .* it must be {channels}, .* \("):
        HyperIQA(SMALL.model_copy(update={"target_input": "means", "target_widths": [64, 32, 16]}))
    model = HyperIQA(SMALL.model_copy(update={"target_input": "means", "target_widths": [channels, 30, 15]}))
    maps = model.backbone(model.normalise(images()))
    assert torch.equal(model.local(maps), torch.cat([level.mean((2, 3)) for level in maps], 1))


def test_attention_in_the_pyramid_is_a_choice_and_its_reduction_a_width():
    changes = {"fusion": "fpn_cbam", "fpn_channels": 32}
    sizes = {}
    for name, choice in {"16": {}, "4": {"cbam_reduction": 4}, "none": {"cbam": False}}.items():
        model = HyperIQA(SMALL.model_copy(update=changes | choice))
        sizes[name] = sum(parameter.numel() for parameter in model.fusion.attention.parameters())
        assert ("CBAM" in model.fusion.words) == ("CBAM" in model.fusion.each) == (name != "none")
    places = 2 * 7 * 7  # the convolution over places
    assert sizes == {"16": 3 * (2 * 32 * 2 + places), "4": 3 * (2 * 32 * 8 + places), "none": 0}


def test_the_description_accounts_for_every_parameter(small):
    described = describe(small, 96, 96)
    assert sum(part["parameters"] for part in described["parts"]) == described["parameters"]
    assert described["parameters"] == sum(p.numel() for p in small.parameters())
    widths = [*SMALL.target_widths, 1]
    weights = sum(a * b + b for a, b in pairwise(widths))
    assert described["generated_weights"] == weights
