"""The published models in plain PyTorch, as second implementations to compare the checkpoint reader with.

Written from the papers and from the written definition of the layouts; nothing here imports `iqa`. Parts carry the
names that they have in the published files, so that `state_dict()` of a reference is such a file's content.
"""

import math
import re
from functools import cache, partial
from itertools import pairwise

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate
from torch.overrides import TorchFunctionMode
from torchvision.models.resnet import Bottleneck, ResNet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SWIN_CHANNELS = {"tiny": 96, "small": 96, "base": 128}


def windows(x: Tensor, count: int) -> Tensor:
    """Means over count x count windows; window i of n on length L is floor(i L / n) up to ceil((i + 1) L / n)."""
    rows = [(i * x.shape[2] // count, math.ceil((i + 1) * x.shape[2] / count)) for i in range(count)]
    columns = [(i * x.shape[3] // count, math.ceil((i + 1) * x.shape[3] / count)) for i in range(count)]
    return torch.stack([torch.stack([x[:, :, a:b, c:d].mean((2, 3)) for c, d in columns], -1) for a, b in rows], -2)


def add_lda(body: nn.Module, channels: list[int]) -> None:
    """Local distortion aware modules: three levels at 7x7 windows, the fourth averaged."""
    for level, (inside, out, grid) in enumerate(zip(channels, (16, 32, 64), (8, 4, 2), strict=False), start=1):
        setattr(body, f"lda{level}_pool", nn.Sequential(nn.Conv2d(inside, out, 1, bias=False)))
        setattr(body, f"lda{level}_fc", nn.Linear(out * grid * grid, 16))
    body.lda4_fc = nn.Linear(channels[3], 176)


def lda(body: nn.Module, maps: list[Tensor]) -> Tensor:
    """The target network's input (B, 224)."""
    first = body.lda1_fc(windows(body.lda1_pool(maps[0]), 8).flatten(1))
    second = body.lda2_fc(windows(body.lda2_pool(maps[1]), 4).flatten(1))
    third = body.lda3_fc(windows(body.lda3_pool(maps[2]), 2).flatten(1))
    return torch.cat([first, second, third, body.lda4_fc(maps[3].mean((2, 3)))], 1)


def semantic(*widths: int) -> nn.Sequential:
    """1x1 convolutions, each with a ReLU after it."""
    return nn.Sequential(*(layer for i, o in pairwise(widths) for layer in (nn.Conv2d(i, o, 1), nn.ReLU())))


class Reference(nn.Module):
    """What all have in common: the hyper network and the target network."""

    def __init__(self):
        super().__init__()
        for number, (inside, out) in enumerate(((224, 112), (112, 56), (56, 28), (28, 14)), start=1):
            setattr(self, f"fc{number}w_conv", nn.Conv2d(112, inside * out // 49, 3, padding=1))
            setattr(self, f"fc{number}b_fc", nn.Linear(112, out))
        self.fc5w_fc = nn.Linear(112, 14)
        self.fc5b_fc = nn.Linear(112, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (B,) on the release's own scale, of pixels (B, 3, H, W) on 0..255."""
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
        fused, local = self.features((pixels / 255 - mean) / std)
        return self.target(fused, local)

    def target(self, fused: Tensor, local: Tensor) -> Tensor:
        """A grouped convolution per layer: group b holds the weights of image b."""
        batch, pooled = len(fused), fused.mean((2, 3))
        x = local.reshape(1, batch * 224, 1, 1)
        for number, (inside, out) in enumerate(((224, 112), (112, 56), (56, 28), (28, 14)), start=1):
            weight = getattr(self, f"fc{number}w_conv")(fused).reshape(batch * out, inside, 1, 1)
            bias = getattr(self, f"fc{number}b_fc")(pooled).reshape(batch * out)
            x = torch.sigmoid(conv2d(x, weight, bias, groups=batch))
        weight, bias = self.fc5w_fc(pooled).reshape(batch, 14, 1, 1), self.fc5b_fc(pooled).reshape(batch)
        return conv2d(x, weight, bias, groups=batch).reshape(batch)


class ResNetBody(ResNet):
    """ResNet-50 without its classifier (torchvision's: the stride is in the 3x3 convolution), and the LDA modules."""

    def __init__(self):
        super().__init__(Bottleneck, [3, 4, 6, 3])
        del self.fc
        add_lda(self, [256, 512, 1024, 2048])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class Original(Reference):
    """HyperIQA (Su et al., CVPR 2020); scores 0..100."""

    def __init__(self):
        super().__init__()
        self.res = ResNetBody()
        self.conv1 = semantic(2048, 1024, 512, 112)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.res(x)
        return self.conv1(windows(maps[3], 7)), lda(self.res, maps)


class Swin(Reference):
    """HyperIQA with a Swin Transformer; fusion last, concat or attention; scores 0..100."""

    def __init__(self, size: str, fusion: str):
        super().__init__()
        width = SWIN_CHANNELS[size]
        self.channels = [width, 2 * width, 4 * width, 8 * width]
        self.fusion = fusion
        self.swin = nn.Module()
        name = f"swin_{size}_patch4_window7_224"
        self.swin.backbone = timm.create_model(name, features_only=True, strict_img_size=False)
        add_lda(self.swin, self.channels)
        if fusion == "attention":
            self.multiscale_attention = nn.Module()
            self.multiscale_attention.attention_net = nn.Sequential(
                nn.Linear(8 * width, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 4), nn.Softmax(1)
            )
        self.conv1 = semantic(8 * width if fusion == "last" else sum(self.channels), 512, 256, 112)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = [each.permute(0, 3, 1, 2) for each in self.swin.backbone(x)]
        pooled = [windows(each, 7) for each in maps]
        if self.fusion == "attention":
            weights = self.multiscale_attention.attention_net(maps[3].mean((2, 3)))
            pooled = [each * weights[:, i].reshape(-1, 1, 1, 1) for i, each in enumerate(pooled)]
        fused = pooled[3] if self.fusion == "last" else torch.cat(pooled, 1)
        return self.conv1(fused), lda(self.swin, maps)


class Cbam(nn.Module):
    """Channel attention, then spatial attention (Woo et al., ECCV 2018)."""

    def __init__(self):
        super().__init__()
        self.channel_attention = nn.Module()
        self.channel_attention.fc = nn.Sequential(
            nn.Linear(256, 16, bias=False), nn.ReLU(), nn.Linear(16, 256, bias=False)
        )
        self.spatial_attention = nn.Module()
        self.spatial_attention.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        fc = self.channel_attention.fc
        x = x * torch.sigmoid(fc(flat.mean(2)) + fc(flat.max(2).values)).unsqueeze(2).unsqueeze(3)
        return x * torch.sigmoid(self.spatial_attention.conv(torch.stack([x.mean(1), x.max(1).values], 1)))


class MultiScale(Reference):
    """MS-HyperIQA: a feature pyramid over layers 2..4, CBAM at each level; scores 0..100."""

    def __init__(self):
        super().__init__()
        self.res = ResNetBody()
        self.fpn = nn.Module()
        for level, channels in ((2, 512), (3, 1024), (4, 2048)):
            setattr(self.fpn, f"lateral_conv{level}", nn.Conv2d(channels, 256, 1))
            setattr(self.fpn, f"smooth_conv{level}", nn.Conv2d(256, 256, 3, padding=1))
            setattr(self, f"attention_p{level}", Cbam())
        self.fusion_conv = semantic(768, 256, 112)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.res(x)
        fpn = self.fpn
        top4 = fpn.lateral_conv4(maps[3])
        top3 = fpn.lateral_conv3(maps[2])
        top3 = top3 + interpolate(top4, size=tuple(top3.shape[2:]), mode="bilinear", align_corners=False)
        top2 = fpn.lateral_conv2(maps[1])
        top2 = top2 + interpolate(top3, size=tuple(top2.shape[2:]), mode="bilinear", align_corners=False)
        p2 = self.attention_p2(fpn.smooth_conv2(top2))
        p3 = self.attention_p3(fpn.smooth_conv3(top3))
        p4 = self.attention_p4(fpn.smooth_conv4(top4))
        return self.fusion_conv(torch.cat([windows(p, 7) for p in (p2, p3, p4)], 1)), lda(self.res, maps)


class Undrawn(TorchFunctionMode):
    """Leaves out the random numbers with which networks begin: what is built gets its weights from somewhere else."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("uniform_", "normal_", "erfinv_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def build(kind: str) -> Reference:
    """The network of `hyperiqa`, `iqa_pytorch`, `ms_hyperiqa` or `swin-<size>-<fusion>`."""
    if kind.startswith("swin-"):
        return Swin(*kind.split("-")[1:])
    return {"hyperiqa": Original, "iqa_pytorch": Original, "ms_hyperiqa": MultiScale}[kind]()


def content(kind: str, model: Reference) -> dict[str, Tensor]:
    """What a published file of such a network holds, without wrappers."""
    return as_iqa_pytorch(model.state_dict()) if kind == "iqa_pytorch" else dict(model.state_dict())


@cache
def _shapes(kind: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        return content(kind, build(kind))


def blank(kind: str, numbered: bool = False) -> dict[str, Tensor]:
    """`content` with the right names and shapes, each tensor of one value, which takes no space in a file.

    Args:
        numbered: the value is the tensor's number from 1, instead of 0.
    """
    values = {name: torch.full((), number * numbered) for number, name in enumerate(_shapes(kind), 1)}
    return {name: values[name].to(like.dtype).expand(like.shape) for name, like in _shapes(kind).items()}


def images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Images (count, 3, height, width), uint8, that differ in colour, contrast, coarseness and noise."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for number in range(count):
        cells = 2 + 5 * number
        coarse = torch.rand(1, 3, cells, cells, generator=draw)
        smooth = interpolate(coarse, size=(height, width), mode="bicubic")[0]
        noise = torch.randn(3, height, width, generator=draw) * torch.rand(1, generator=draw) * 0.3
        made.append(smooth * torch.rand(3, 1, 1, generator=draw) + noise)
    return (torch.stack(made) * 255).round().clip(0, 255).to(torch.uint8)


@torch.no_grad()
def randomise(model: Reference, high: float, seed: int = 0) -> None:
    """Random weights and batch-norm statistics with which the scores of images scatter around high / 2.

    The heads are scaled by what some images give, so that a mistake in any part shows in the score.
    """
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
            module.bias.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(torch.randint(1, 1000, ()))
        elif isinstance(module, nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
    for name, value in model.named_parameters():
        if name.endswith("relative_position_bias_table"):
            value.normal_(0, 0.5)
    deviations = {  # of what a layer gives
        r"fc\db_fc|fc5w_fc|.*\.lda\d_fc|conv1\.\d|fusion_conv\.\d": 1,
        r".*attention_net\.3|.*channel_attention\.fc\.2|.*spatial_attention\.conv": 1,
        r"fc1w_conv": 0.2,  # about 3 / sqrt(inputs)
        r"fc[234]w_conv": 0.4,
    }
    hooks = [
        module.register_forward_hook(partial(rescale, deviation=deviation))
        for name, module in model.named_modules()
        for pattern, deviation in deviations.items()
        if re.fullmatch(pattern, name) and isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    scores = model.eval()(images(3, 128, 128, seed=seed + 1))
    for hook in hooks:
        hook.remove()
    factor = 0.08 * high / scores.std()
    for value in (*model.fc5w_fc.parameters(), *model.fc5b_fc.parameters()):
        value *= factor
    model.fc5b_fc.bias += high / 2 - factor * scores.mean()


def rescale(module: nn.Module, _inputs: tuple, output: Tensor, deviation: float) -> Tensor:
    """A forward hook that scales a layer to a standard deviation of its output."""
    factor = deviation / output.std()
    for value in module.parameters():
        value *= factor
    return output * factor


IQA_PYTORCH = {
    "res": "base_model",
    "res.lda1_pool.0": "lda_modules.0.0",
    "res.lda2_pool.0": "lda_modules.1.0",
    "res.lda3_pool.0": "lda_modules.2.0",
    "res.lda1_fc": "lda_modules.0.3",
    "res.lda2_fc": "lda_modules.1.3",
    "res.lda3_fc": "lda_modules.2.3",
    "res.lda4_fc": "lda_modules.3.2",
    "fc1w_conv": "fc_w_modules.0",
    "fc2w_conv": "fc_w_modules.1",
    "fc3w_conv": "fc_w_modules.2",
    "fc4w_conv": "fc_w_modules.3",
    "fc5w_fc": "fc_w_modules.4.2",
    "fc1b_fc": "fc_b_modules.0.2",
    "fc2b_fc": "fc_b_modules.1.2",
    "fc3b_fc": "fc_b_modules.2.2",
    "fc4b_fc": "fc_b_modules.3.2",
    "fc5b_fc": "fc_b_modules.4.2",
}


def as_iqa_pytorch(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `Original` under the names that IQA-PyTorch gives them."""
    renamed = {}
    for name, value in state.items():
        parts = [part for part in IQA_PYTORCH if name.startswith(f"{part}.")]
        part = max(parts, key=len, default="")  # conv1 keeps its name
        renamed[IQA_PYTORCH.get(part, "") + name[len(part) :]] = value
    return renamed


def as_older_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `Swin` as older timm versions named them, with the buffers that these saved."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(r"layers_(\d)\.downsample", lambda found: f"layers_{int(found[1]) - 1}.downsample", name)
        renamed[re.sub(r"layers_(\d)", r"layers.\1", name)] = value
    for attention in [name.removesuffix("relative_position_bias_table") for name in renamed if "bias_table" in name]:
        renamed[f"{attention}relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
        stage, block = (int(number) for number in re.findall(r"\.(\d+)", attention))
        if block % 2 and stage < 3:  # shifted windows; the last stage has a single window
            renamed[f"{attention.removesuffix('attn.')}attn_mask"] = torch.zeros(64 // 4**stage, 49, 49)
    return renamed
