"""Checks of parameters, computation, memory, geometry and use: what follows from the models and the code alone."""

import numpy as np

from iqa.claims import facts
from iqa.claims.checks import (
    COMPUTED,
    FAILS,
    HOLDS,
    ON_KONIQ,
    TIMING,
    UNTESTED,
    Finding,
    check,
    gmacs,
    listed,
    millions,
    needs,
    percent,
    runs,
    verdict,
)
from iqa.claims.facts import Claim, agrees, count, macs, parameters
from iqa.claims.measured import Measured
from iqa.show.tables import shape

# parameters


@check("C01")
def size_of_ms_hyperiqa(claim: Claim, study: Measured) -> Finding:
    new, old = map(parameters, claim.experiments)
    body = count(facts.model(claim.experiments[0]).backbone)
    free = sum(p.numel() for p in facts.model(claim.experiments[0]).parameters() if p.requires_grad)
    found = (
        f"{millions(new)} against {millions(old)} of HyperIQA ({percent(new / old - 1)}), {millions(free)} of them "
        f"trainable; the ResNet-50 body alone has {millions(body)}."
    )
    right = agrees(new / 1e6, claim.figures[0]) and agrees(100 * (new / old - 1), claim.figures[1])
    return Finding(found, COMPUTED, verdict(right))


@check("C02")
def sizes_of_new_parts(claim: Claim, study: Measured) -> Finding:
    fusion = facts.model(claim.experiments[0]).fusion
    attention = count(fusion.attention)
    pyramid = count(fusion) - attention
    made = facts.description(claim.experiments[0])["generated_weights"]
    found = (
        f"The pyramid has {millions(pyramid)}, the attention {attention:,} parameters; the target network has none: "
        f"{made:,} weights are generated for each image."
    )
    right = all(agrees(n / 1e6, figure) for n, figure in zip((pyramid, attention, made), claim.figures, strict=True))
    return Finding(found, COMPUTED, verdict(right))


@check("D01")
def sizes_of_other_parts(claim: Claim, study: Measured) -> Finding:
    model = facts.model(claim.experiments[0])
    body, hyper = count(model.backbone), count(model.hyper)
    *parts, total = claim.numbers
    heads = hyper + count(model.semantic)
    found = (
        f"The ResNet-50 body has {millions(body)}, the hyper network {millions(hyper)} ({millions(heads)} with the "
        f"convolutions before it); the stated parts add up to {sum(parts):.1f}M of the stated {total:.1f}M."
    )
    right = agrees(body / 1e6, claim.figures[0]) and agrees(hyper / 1e6, claim.figures[1])
    return Finding(found, COMPUTED, verdict(right))


@check("D02")
def shapes_of_ms_hyperiqa(claim: Claim, study: Measured) -> Finding:
    built = facts.description(claim.experiments[0])
    read = [level for level in built["levels"] if level["fused"]]
    channels, grids = [level["channels"] for level in read], [level["height"] for level in read]
    pyramid = facts.training(claim.experiments[0]).fpn_channels
    shapes = [*channels, *grids, pyramid, built["semantic_widths"][-1], *built["target_widths"]]
    maps = listed([f"{width} channels at {grid}" for width, grid in zip(channels, grids, strict=True)])
    found = (
        f"The fusion reads maps of {maps}; the pyramid has {pyramid}, the semantic map {built['semantic_widths'][-1]} "
        f"channels; target network {'-'.join(map(str, built['target_widths']))}."
    )
    return Finding(found, COMPUTED, verdict(shapes == claim.numbers))


@check("D03")
def size_of_hyperiqa(claim: Claim, study: Measured) -> Finding:
    size = parameters(*claim.experiments)
    body = count(facts.model(*claim.experiments).backbone)
    right = all(agrees(size / 1e6, figure) for figure in claim.figures)
    return Finding(f"{size:,} parameters, {body:,} of them in the ResNet-50 body.", COMPUTED, verdict(right))


@check("C08")
def cost_of_all_scales(claim: Claim, study: Measured) -> Finding:
    last, every = map(parameters, claim.experiments)
    growth = every / last - 1
    right = all(
        agrees(value, figure)
        for value, figure in zip((last / 1e6, every / 1e6, 100 * growth), claim.figures, strict=True)
    )
    found = f"{millions(last)} to {millions(every)} ({percent(growth)})."
    return Finding(found, COMPUTED, verdict(right))


@check("C13")
def size_with_attention(claim: Claim, study: Measured) -> Finding:
    size, without = map(parameters, claim.experiments)
    found = f"{millions(size)} with attention; {millions(without)} is the model without it."
    return Finding(found, COMPUTED, verdict(agrees(size / 1e6, claim.figures[0])))


@check("D10")
def against_vit(claim: Claim, study: Measured) -> Finding:
    own, vit = parameters(*claim.experiments), facts.timm_parameters("vit_base_patch8_224", num_classes=0)
    found = f"{millions(own)} against {millions(vit)} of a ViT-B/8 without classifier: {vit / own:.1f} times fewer."
    return Finding(found, COMPUTED, verdict(agrees(vit / own, claim.figures[1])))


@check("D11")
def size_of_dbcnn(claim: Claim, study: Measured) -> Finding:
    body = facts.timm_parameters("vgg16", features_only=True)
    found = f"The convolutions of its VGG-16 alone have {millions(body)}; its second network comes on top."
    return Finding(found, COMPUTED, verdict(body / 1e6 <= claim.numbers[0]))


@check("D13")
def channels_of_all_stages(claim: Claim, study: Measured) -> Finding:
    tiny, base = (facts.description(experiment) for experiment in claim.experiments)
    widths = [level["channels"] for level in tiny["levels"]]
    sums = [each["semantic_widths"][0] for each in (tiny, base)]
    found = f"Swin-Tiny: {' + '.join(map(str, widths))} = {sums[0]}; Swin-Base: {sums[1]}."
    return Finding(found, COMPUTED, verdict([*widths, *sums] == claim.numbers))


@check("D18")
def cost_of_attention(claim: Claim, study: Measured) -> Finding:
    sizes, counts = (list(map(measure, claim.experiments)) for measure in (parameters, macs))
    more, work = sizes[0] - sizes[1], counts[0] - counts[1]
    found = (
        f"{more:,} parameters ({percent(more / sizes[1], 2)}) and {work:,} multiply-accumulates "
        f"({percent(work / counts[1], 3)}) more: a small cost."
    )
    return Finding(found, COMPUTED, verdict(more > 0))


@check("D21")
def sizes_of_backbones(claim: Claim, study: Measured) -> Finding:
    bodies = [count(facts.model(experiment).backbone) for experiment in claim.experiments]
    whole = [facts.timm_parameters(facts.training(experiment).backbone) for experiment in claim.experiments]
    found = (
        f"{listed(list(map(millions, whole)))} with the ImageNet classifier, {listed(list(map(millions, bodies)))} "
        "without it, as the models use them."
    )
    pairs = zip(bodies, whole, claim.figures, strict=True)
    return Finding(found, COMPUTED, verdict(all(agrees(a / 1e6, f) or agrees(b / 1e6, f) for a, b, f in pairs)))


@check("D22")
def sizes_of_models(claim: Claim, study: Measured) -> Finding:
    sizes = list(map(parameters, claim.experiments))
    bodies = [count(facts.model(experiment).backbone) for experiment in claim.experiments]
    right = [agrees(size / 1e6, figure) for size, figure in zip(sizes, claim.figures, strict=True)]
    found = (
        f"{listed(list(map(millions, sizes)))} without attention, {sum(right)} of {len(right)} as stated; the other "
        f"figures are nearer to the backbones alone, {listed(list(map(millions, bodies)))}."
    )
    return Finding(found, COMPUTED, verdict(all(right)))


# computation and memory


@check("C03")
def work_of_ms_hyperiqa(claim: Claim, study: Measured) -> Finding:
    new, old = map(macs, claim.experiments)
    found = (
        f"{gmacs(new)} ({2 * new / 1e9:.2f} GFLOPs) against {gmacs(old)} ({2 * old / 1e9:.2f} GFLOPs) of HyperIQA, "
        f"{percent(new / old - 1)}."
    )
    if agrees(2 * old / 1e9, claim.figures[0]):
        found += f" The stated {claim.figures[0]} GFLOPs are HyperIQA's."
    right = any(agrees(value / 1e9, claim.figures[0]) for value in (new, 2 * new))
    return Finding(found, COMPUTED, verdict(right and agrees(100 * (new / old - 1), claim.figures[1])))


@check("C14")
def work_of_swin(claim: Claim, study: Measured) -> Finding:
    bodies = [facts.backbone_macs(experiment) for experiment in claim.experiments]
    models = [macs(experiment) for experiment in claim.experiments]
    flops = [f"{2 * value / 1e9:.1f}" for value in models]
    found = (
        f"Backbones {listed(list(map(gmacs, bodies)))}: their figures are multiply-accumulates, half the FLOPs. Models "
        f"{listed(list(map(gmacs, models)))}, or {listed(flops)} GFLOPs, attention products included; the stated "
        "figures of the models are neither."
    )
    stated = dict(zip(claim.figures[3:6], models, strict=True)) | {claim.figures[6]: models[-1]}
    right = all(agrees(n / 1e9, figure) or agrees(2 * n / 1e9, figure) for figure, n in stated.items())
    return Finding(found, COMPUTED, verdict(right))


def timed(claim: Claim, study: Measured) -> str:
    """Latencies of the claim's models in this study."""
    params = [facts.training(experiment) for experiment in claim.experiments]
    return "".join(study.latency(own.backbone, own.fusion) for own in params)


@check("C15")
def throughput(claim: Claim, study: Measured) -> Finding:
    _, mean, spread = claim.numbers
    found = (
        f"{1000 / mean:.2f} images/s is the reciprocal of the latency at batch size 1, no measurement of throughput; "
        f"that latency's SD is {100 * spread / mean:.0f}% of its mean; the hardware is not named."
    )
    return needs("the hardware, which the document does not name", found, TIMING).beside(timed(claim, study))


@check("C24")
def on_rtx_3090(claim: Claim, study: Measured) -> Finding:
    _, memory, batch = claim.numbers
    kept = facts.saved_bytes(claim.experiments[0], int(batch)) / 1e9
    found = f"A training step with a batch of {batch:.0f} keeps {kept:.1f} GB of activations alone, in 32 bits."
    if kept > memory:
        found += f" The stated {memory} GB can be meant for inference only."
    return needs("an NVIDIA RTX 3090", found, TIMING).beside(timed(claim, study))


@check("C25")
def latency_of_swin_base(claim: Claim, study: Measured) -> Finding:
    found = (
        f"At batch size 1 a GPU waits for its launches: {gmacs(macs(*claim.experiments))} in {claim.figures[0]} ms are "
        f"{2 * macs(*claim.experiments) / claim.numbers[0] / 1e9:.1f} TFLOP/s; the hardware is not named."
    )
    return needs("the hardware, which the document does not name", found, TIMING).beside(timed(claim, study))


@check("D23")
def latencies_of_swin(claim: Claim, study: Measured) -> Finding:
    counts = [macs(experiment) for experiment in claim.experiments]
    work, time = (listed([f"{value / values[0]:.1f}" for value in values[1:]]) for values in (counts, claim.numbers))
    found = f"Small and base compute {work} times as much as tiny, and are stated to take {time} times as long."
    return needs("the hardware, which the document does not name", found, TIMING).beside(timed(claim, study))


# geometry, schedules and use


@check("C06")
def restarts(claim: Claim, study: Measured) -> Finding:
    epochs = int(claim.numbers[0])
    plain, restarted = (int((np.diff(facts.rates(epochs, restart=r)[:-1]) > 0).sum()) for r in (None, epochs // 3))
    found = (
        f"The schedule that S002 lists, CosineAnnealingLR, rises {plain} times in {epochs} epochs; one that starts "
        f"anew every {epochs // 3} epochs rises {restarted} times. The implementations used the first."
    )
    return Finding(found, COMPUTED, verdict(plain > 0))


@check("C20")
def squeezed(claim: Claim, study: Measured) -> Finding:
    width, height, first, second = claim.numbers
    stretch = (first / height) / (second / width)
    found = (
        f"The implementations pass ({first:.0f}, {second:.0f}) as (height, width): a photograph of "
        f"{shape([width, height])} becomes {shape([second, first])} (width first), {stretch:.2f} times too high."
    )
    return Finding(found, COMPUTED, verdict(stretch == 1))


@check("C21")
def centre_crops(claim: Claim, study: Measured) -> Finding:
    patches, height, width, crop = map(int, claim.numbers)
    different, share = facts.coverage("center", patches, height, width, crop)
    random = facts.coverage("random", patches, height, width, crop)[1]
    found = (
        f"The {patches} patches are {different} crop, scored {patches} times, that covers {share:.0%} of the image "
        f"({patches} random ones of one image: {random:.0%}). Equal crops give equal scores, so it is reproducible."
    )
    return Finding(found, COMPUTED, HOLDS if different == 1 else FAILS)


@check("C22")
def rising_cosine(claim: Claim, study: Measured) -> Finding:
    fraction, lr, floor, epochs = claim.numbers
    stated, built = facts.rates(int(epochs), lr, lr / fraction), facts.rates(int(epochs), lr, floor)
    found = (
        f"As stated a rate of {lr:g} falls to {stated[-1]:g}. The implementation's floor is {floor:g}: the rate goes "
        f"from {lr:g} to {built[-1]:g}, and rises in {(np.diff(built) > 0).sum()} of {epochs:.0f} epochs."
    )
    return Finding(found, COMPUTED, verdict(built[-1] < lr))


@check("C23")
def usage_example(claim: Claim, study: Measured) -> Finding:
    names = facts.checkpoint_names(claim.experiments[0], "swin")
    wanted = claim.stated.split()[1], claim.stated.split()[3]
    held = [key for key in wanted if any(name.split(".")[0] == key for name in names)]
    starts = ", ".join(sorted({name.split(".")[0] for name in names}, reverse=True)[:3])
    found = (
        f"A published file is a bare state dict of {len(names)} tensors ({starts}, ...); {len(held)} of the "
        f"{len(wanted)} keys are there, and the model returns a tensor of scores."
    )
    return Finding(found, COMPUTED, verdict(len(held) == len(wanted)))


@check("D20")
def earlier_checkpoints(claim: Claim, study: Measured) -> Finding:
    old, new = (tuple(facts.model(experiment).semantic[0].weight.shape) for experiment in claim.experiments)
    found = (
        f"The first convolution has the shape {shape(old)} with the last scale and {shape(new)} with all of them, "
        "which is the default: a file of the one does not load into the other."
    )
    return Finding(found, COMPUTED, verdict(old == new))


@check("C19")
def frozen_hyper_network(claim: Claim, study: Measured) -> Finding:
    first, again = facts.hyper_tensors(claim.experiments[0])
    found = (
        f"With steps the solver renews its optimiser from one `filter` iterator: it holds {first} tensors of the heads "
        f"in the first epoch and {again} after it. A hyper network that stops learning then explains the peak, too."
    )
    free, frozen = (study.trained(experiment)["best_epoch"] for experiment in claim.experiments)
    if len(free) and len(frozen):
        text = f" Measured best epochs: {free.mean():.1f} on average, {frozen.mean():.1f} with the heads frozen."
        return Finding(found + text, ON_KONIQ, verdict(free.mean() <= claim.numbers[0]))
    return Finding(found, f"{COMPUTED}; {needs(runs(claim), '').basis}", UNTESTED).beside(study.best_epochs())
