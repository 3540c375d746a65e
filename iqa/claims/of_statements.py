"""Checks of arithmetic, expectations and protocols, and of what only trainings can show."""

import numpy as np

from iqa.analysis import attention
from iqa.claims import facts
from iqa.claims.checks import (
    BOUND,
    COMPUTED,
    ERROR,
    FAILS,
    HOLDS,
    ON_KONIQ,
    OPEN,
    PUBLISHED,
    UNTESTED,
    Finding,
    Step,
    check,
    listed,
    needs,
    percent,
    runs,
    settled,
    signed,
    srcc,
    verdict,
)
from iqa.claims.facts import DATABASE, Claim, agrees, published, published_srcc
from iqa.claims.measured import Measured
from iqa.claims.of_results import FINAL, LATER, points, values
from iqa.data.releases import RELEASES
from iqa.show.tables import number
from iqa.study import param_files

# arithmetic


@check("C11")
def differences_by_size(claim: Claim, study: Measured) -> Finding:
    small, small_l1, base, base_l1 = values("S003", claim.experiments)
    own = [small - small_l1, base - base_l1]
    factor = np.mean(np.divide(claim.numbers, own))
    found = f"{srcc(own[0])} and {srcc(own[1])} by the same documents' SRCC, {factor:.0f} times less than stated."
    return Finding(found, PUBLISHED, verdict(all(map(agrees, own, claim.figures)), ERROR))


@check("C12")
def improvements(claim: Claim, study: Measured) -> Finding:
    base, *others = values("S003", claim.experiments)
    absolute, relative = [100 * (v - base) for v in others], [100 * (v / base - 1) for v in others]
    implied = [value / (1 + stated / 100) for value, stated in zip(others, claim.numbers, strict=True)]
    texts = [listed([number(value, "+.2f") for value in own]) for own in (absolute, relative)]
    found = (
        f"{texts[0]} points, or {texts[1]}% relative to {srcc(base)}. The stated figures would need a baseline of "
        f"{srcc(min(implied))} to {srcc(max(implied))}."
    )
    right = any(all(map(agrees, own, claim.figures)) for own in (absolute, relative))
    return Finding(found, PUBLISHED, verdict(right, ERROR))


@check("D36")
def improvement_of_plcc(claim: Claim, study: Measured) -> Finding:
    (new, old), (a, b) = (values("S002", claim.experiments, column) for column in ("plcc", "srcc"))
    found = (
        f"{points(new - old)} points, {percent(new / old - 1, 2)} relative: stated in points. The SRCC beside it gains "
        f"{points(a - b)} points or {percent(a / b - 1, 2)}, and its stated figure is neither."
    )
    return Finding(found, PUBLISHED, verdict(agrees(100 * (new - old), claim.figures[0]), ERROR))


@check("D29")
def table_of_ranking_weights(claim: Claim, study: Measured) -> Finding:
    row = published("S003", method="Swin-Base alpha 0.5, as the alpha table has it")
    with_attention, without = (published("S003", experiment) for experiment in claim.experiments[:2])
    same = (row[["srcc", "plcc"]] == with_attention[["srcc", "plcc"]]).all()
    others = facts.changed(claim.experiments[0], claim.experiments[2])
    found = (
        f"Its best row, {srcc(row['srcc'])} and {srcc(row['plcc'])}, is the model with attention; the others are "
        f"without, so that {listed(others)} change at once. Without attention that weight has {srcc(without['srcc'])}."
    )
    return Finding(found, PUBLISHED, verdict(not same))


@check("D32")
def growth_of_regularisation(claim: Claim, study: Measured) -> Finding:
    tiny, base = (facts.training(experiment) for experiment in claim.experiments)
    names = ("weight_decay", "drop_path", "dropout", "lr")
    ratios = [getattr(base, name) / getattr(tiny, name) for name in names]
    found = f"{listed([f'{name} {ratio:.3g}x' for name, ratio in zip(names, ratios, strict=True)])} in params/koniq10k."
    return Finding(found, COMPUTED, verdict(all(map(agrees, ratios, claim.figures)), ERROR))


# expectations and protocols


@check("C04", "D04")
def expected(claim: Claim, study: Measured) -> Finding:
    """What MS-HyperIQA should reach, against what its authors measured later; D04 has figures, C04 published rows."""
    table = facts.published_table()
    rows = table[table["method"] == "MS-HyperIQA (expected)"]
    wanted = dict(zip(rows["tested_on"], rows["srcc"], strict=True))
    if claim.figures:
        wanted = dict(zip((DATABASE, "SPAQ"), claim.numbers, strict=True))
    reached = {name: published_srcc(LATER, *claim.experiments, tested_on=name) for name in wanted}
    texts = [f"{name} {srcc(value)} ({signed(value - wanted[name])})" for name, value in reached.items()]
    right = [value > wanted[name] for name, value in reached.items()]
    found = f"Measured later by its authors: {listed(texts)}; {sum(right)} of {len(right)} reached."
    return Finding(found, PUBLISHED, verdict(all(right)))


@check("C09")
def random_against_centre_crops(claim: Claim, study: Measured) -> Finding:
    random = published_srcc("S001", *claim.experiments)
    centre = published_srcc(FINAL, method="Swin-Tiny concat, step schedule, centre crops")
    gain = random - centre
    found = (
        f"The same trained epoch has {srcc(centre)} with centre crops and {srcc(random)} with random ones: "
        f"{signed(gain)}, {gain / claim.numbers[0]:.0f} times the stated gain."
    )
    return Finding(found, PUBLISHED, verdict(agrees(gain, claim.figures[0]))).beside(study.beside(claim.parameters))


@check("C18")
def best_epoch_on_the_test_set(claim: Claim, study: Measured) -> Finding:
    epochs = int(claim.numbers[0])
    best = published_srcc("S003", "swin_base_attention")
    gain = facts.selection_gain(epochs, best)
    found = (
        f"The best of {epochs} equally good epochs on the same {facts.TEST_IMAGES:,} images exceeds their true SRCC by "
        f"{srcc(gain)} on average at {srcc(best)}, if their errors were independent: an upper bound of the optimism."
    )
    return Finding(found, COMPUTED, FAILS).beside(study.selection_gain())


@check("D12")
def state_of_the_art(claim: Claim, study: Measured) -> Finding:
    own = published("S001", *claim.experiments)
    texts = [
        f"{method} {number(published('S001', method=f'{method}, quoted')['srcc'], '.3f')} as quoted and "
        f"{number(published('IQA-PyTorch', method=method)['srcc'], '.3f')} in the IQA-PyTorch table"
        for method in ("DBCNN", "MANIQA")
    ]
    table = facts.published_table()
    best = table[table["tested_on"] == DATABASE].nlargest(1, "srcc").iloc[0]
    found = (
        f"{srcc(own['srcc'])} ({own['protocol']}); {'; '.join(texts)}. The highest value that is known here is "
        f"{number(best['srcc'], '.3f')} ({best['method']}, {best['protocol']}). Their protocols differ."
    )
    return Finding(found, PUBLISHED, UNTESTED)


@check("D14")
def time_of_the_spaq_test(claim: Claim, study: Measured) -> Finding:
    _, train, test, patches = claim.numbers
    steps = 3 * facts.training(*claim.experiments).train_patches / patches  # forward and backward: three passes
    sizes = [
        int(published(FINAL, method="SMART-IQA base", tested_on="SPAQ")["protocol"].split()[0]),
        RELEASES["spaq"].images,
    ]
    shares = [f"{size / (steps * train + test + size):.0%} with {size:,} images" for size in sizes]
    found = (
        f"If a training step costs three forward passes, the SPAQ test takes {listed(shares)}; reading the images adds "
        "to it, and how many there were is not stated."
    )
    return needs(f"SPAQ beside {DATABASE}, and a training with monitor_databases: [spaq]", found)


@check("D19")
def several_runs(claim: Claim, study: Measured) -> Finding:
    table = facts.published_table()
    own = table[table["source"].eq("S001") & ~table["method"].str.contains("quoted|epoch (?!1)")]
    most = own["method"].value_counts().max()
    found = f"Of each of its {own['method'].nunique()} configurations S001 states {most} result, without a spread."
    return Finding(found, PUBLISHED, UNTESTED)


@check("D38")
def baseline(claim: Claim, study: Measured) -> Finding:
    stated = published("S002", *claim.experiments)
    table = facts.published_table()
    same = table["experiment"].isin(claim.experiments) & (table["tested_on"] == DATABASE)
    others = table[same & (table["method"] != stated["method"])]
    own = [Step(stated["srcc"], value) for value in others["srcc"]]
    texts = [f"{srcc(row['srcc'])} ({row['protocol'].split(';')[0]})" for row in others.to_dict("records")]
    far = max(own, key=lambda each: abs(each.delta))
    found = f"Others publish {listed(texts)}. The farthest: {far}{BOUND}."
    trained = study.trained(*claim.experiments)
    if len(trained):
        low, high = trained["srcc_low"].min(), trained["srcc_high"].max()
        text = f" Measured: {srcc(trained['srcc'].mean())} [{srcc(low)}, {srcc(high)}] over {len(trained)} seeds."
        return Finding(found + text, ON_KONIQ, verdict(low <= stated["srcc"] <= high))
    return Finding(found, PUBLISHED, OPEN if all(each.verdict == OPEN for each in own) else FAILS)


@check("D39")
def images_of_koniq(claim: Claim, study: Measured) -> Finding:
    release = RELEASES["koniq10k"]
    splits, (train, test) = release.splits, map(int, claim.numbers)
    found = (
        f"The official split has {listed([f'{n:,} ({name})' for name, n in splits.items()])} images. The stated ones "
        f"are {splits['train'] - train} and {splits['test'] - test} fewer and leave {release.images - train - test:,} "
        f"of {release.images:,} unused; which they are is not stated."
    )
    return needs("the documents' lists of images", found, command="")


# what needs trainings


@check("D06")
def late_convergence(claim: Claim, study: Measured) -> Finding:
    stopped = next(other for other in facts.claims() if other.id == "D35").figures[0]
    found = f"S001 finds its best epoch first, and S003 stops after {stopped} epochs: other models, the same images."
    epochs = study.trained(*claim.experiments)["best_epoch"]
    if len(epochs):
        text = f" Measured best epochs: {epochs.min():.0f} to {epochs.max():.0f} in {len(epochs)} trainings."
        right = epochs.between(*claim.numbers).all()
        return Finding(found + text, ON_KONIQ, verdict(right))
    return needs(runs(claim), found).beside(study.best_epochs())


@check("D07")
def steadier_with_ranking(claim: Claim, study: Measured) -> Finding:
    found = "No figure is given; steadiness would show in the validation SRCC per epoch of both trainings."
    return needs(runs(claim), found).beside(study.beside(claim.parameters))


@check("D08")
def cosine_against_steps(claim: Claim, study: Measured) -> Finding:
    epochs, stopped, patience = map(int, claim.numbers)
    best = stopped - patience
    found = (
        f"No figure is given. A training that stops after epoch {stopped} with patience {patience} (S003) was best in "
        f"epoch {best}, and a cosine over {epochs} epochs then still has {facts.rates(epochs)[best]:.1%} of its rate."
    )
    return settled(claim, study, needs(runs(claim), found))


@check("D35")
def early_stopping(claim: Claim, study: Measured) -> Finding:
    stopped, patience, epochs = map(int, claim.numbers)
    found = (
        f"Stopping after {stopped} epochs with patience {patience} means that epoch {stopped - patience} of {epochs} "
        "was the best on the test images; no other patience is shown."
    )
    return needs(runs(claim), found).beside(study.best_epochs())


@check("D09")
def generalisation(claim: Claim, study: Measured) -> Finding:
    table = facts.published_table()
    table = table[(table["tested_on"] != DATABASE) & ~table["protocol"].str.startswith("expected")]
    new, old = (table[table["experiment"] == experiment] for experiment in claim.experiments)
    both = new.merge(old, on=["tested_on", "protocol"])
    found = (
        f"Published on {new['tested_on'].nunique()} other databases for MS-HyperIQA and on "
        f"{old['tested_on'].nunique()} for HyperIQA; on {len(both)} for both by one protocol."
    )
    return needs(f"{runs(claim)}, tested on the other databases", found)


@check("D40")
def reproducible(claim: Claim, study: Measured) -> Finding:
    protocol = published("S002", *claim.experiments)["protocol"]
    found = f"No repetition with one seed is stated, and the best model's crops vary, as S001 says ({protocol})."
    return needs("two trainings with one seed on the documents' own code", found, command="")


@check("D42")
def newer_backbone(claim: Claim, study: Measured) -> Finding:
    others = listed(facts.changed(*claim.experiments))
    found = f"The documents compare whole models only. The two experiments here differ in {others}."
    return settled(claim, study, needs(runs(claim), found))


@check("D44")
def super_semantic_vector(claim: Claim, study: Measured) -> Finding:
    sizes = list(map(facts.parameters, claim.experiments))
    found = f"No figure is given. It changes the model's size by {sizes[0] - sizes[1]:+,} parameters."
    return settled(claim, study, needs(runs(claim), found))


@check("D45")
def clusters_of_weights(claim: Claim, study: Measured) -> Finding:
    made = facts.description(claim.experiments[0])["generated_weights"]
    found = f"No figure is given; the silhouette of the {made:,} weights generated for each image would be one."
    seen = ""
    for title, synthetic, table in study.analysed("separation"):
        rows = table[(table["measure"] == "silhouette") & table["value"].notna()]
        values = [f"{row['of']} {interval(row)} ({row['model']})" for row in rows.to_dict("records")]
        seen += f" In this study ({study.where(title, synthetic)}): silhouettes of {', '.join(values)}." * bool(values)
        own = rows[rows["of"] == "quality"].assign(experiment=rows["model"].map(param_files.experiment_of(study.study)))
        pair = [own[own["experiment"] == experiment] for experiment in claim.experiments]
        if title == facts.DATABASE and all(map(len, pair)):
            new, old = (rows.iloc[0] for rows in pair)
            right = HOLDS if new["low"] > old["high"] else FAILS if new["high"] < old["low"] else OPEN
            return Finding(f"{found}{seen} One training of each is compared.", ON_KONIQ, right)
    return needs(f"{runs(claim)}, and an analysis of their generated weights", found).beside(seen)


@check("D46")
def weights_of_scales(claim: Claim, study: Measured) -> Finding:
    bad = np.array(claim.numbers[:4]) / sum(claim.numbers[:4])
    found = (
        f"Three images were looked at. The stated weights of the bad one have {attention.entropy(bad[None])[0]:.0%} of "
        "the entropy of even ones; over all test images the weights follow from a training."
    )
    seen = ""
    for title, synthetic, table in study.analysed("attention"):
        for model, rows in table.groupby("model", sort=False):
            *parts, whole = rows.to_dict("records")
            told = [f"{row['part']} {interval(row)}, stated: {row['stated']}, {row['verdict']}" for row in parts]
            seen += f" In this study ({study.where(title, synthetic)}), {model}: {'; '.join(told)}."
            if title == facts.DATABASE and param_files.experiment_of(study.study).get(model) in claim.experiments:
                return Finding(found + seen, ON_KONIQ, whole["verdict"])
    return needs(f"{runs(claim)}, and their analysis", found).beside(seen)


def interval(row: dict) -> str:
    """A value with its interval."""
    value, low, high = (number(row[name], ".3f") for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
