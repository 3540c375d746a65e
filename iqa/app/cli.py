"""The `iqa` command: one function per sub-command, which imports what it needs, and a table of their arguments."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getdoc
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace as Options
from typing import TYPE_CHECKING, Any

import click

from iqa import __version__
from iqa.study import echo, paths
from iqa.study.registry import registered

if TYPE_CHECKING:
    import pandas as pd

    from iqa.model.hyperiqa import HyperIQA

EXAMPLES = """\b
Examples:
  iqa report demo                          make the demo study and its report
  iqa new mine --images photos/ --labels labels.csv
                                           write a study of your own photographs
  iqa report mine                          train on them, test, write the report
  iqa why mine                             say what of it is out of date, and why
  iqa predict holiday/ --csv scores.csv    score photographs with the newest model
  iqa COMMAND --help                       say more about a command
"""
LEFT = {"image", "name", "table", "Model", "Database", "Part", "Detail", "Run", "Backbone", "Fusion", "Device"}
LEFT |= {"Precision", "Reason", "Stopped by", "place", "problem", "experiment", "trained on"}


class Mistake(ValueError):
    """A command that cannot be carried out; the message says why."""


def _new(options: Options) -> None:
    """Make a study of your own photographs and scores, or a copy of another study.

    The columns of the table, the scale of its scores, and the sizes of images, crops and trainings are found in the
    data, and printed. What stands as a default is taken where nothing else is said.
    """
    from iqa.app import new

    new.start(options)


def _rehearse(options: Options) -> int:
    """Try a whole study with stand-ins for images and networks, and forecast what the real one costs.

    Its report lies in cache/rehearsals/STUDY/report/STUDY/. Exit status: 0 if every run worked, else 1.
    """
    import time

    from iqa.app import rehearsal, steps

    started = time.perf_counter()
    home, found = rehearsal.rehearse(options.study, options.jobs)
    minutes = (time.perf_counter() - started) / 60
    unfinished = found["problem"].str.match("failed|not run")
    runs, hard = len(list(steps.all_params(options.study))), (~unfinished).sum()
    print(f"\n{options.study}: rehearsed in {minutes:.1f} min; {paths.shown(home / 'report' / options.study)}")
    print(f"{runs} runs, {unfinished.sum()} of them not finished; {hard} tables and figures are empty or hard to read")
    if len(found):
        _print_table(found)
    cost = rehearsal.forecast(options.study, options.device)
    device = rehearsal.choose_device(options.device).type
    print(f"\nForecast of the real trainings on this machine's {device}:")
    _print_table(cost)
    hours, disk = cost["total_hours"].sum(), (cost["disk_gb"] * cost["runs"]).sum()
    stored = f"{disk:.1f} GB of models, {rehearsal.cache_gb(options.study):.1f} GB of pixels"
    print(f"{cost['runs'].sum()} trainings, {hours:,.1f} {device} hours; {stored}")
    return int(unfinished.any())


def _report(options: Options) -> None:
    """Make what is out of date of a study, and render its report.

    Nothing else is made again. A training that was stopped goes on after its last epoch.
    """
    from iqa.app import graph

    if options.dry_run:
        graph.print_due(options.study, not options.no_train)
    else:
        graph.report(options.study, options.jobs, not options.no_train, options.profile, options.runs_per_gpu)


def _why(options: Options) -> None:
    """Say which runs are out of date, and why."""
    from iqa.app import stale, steps

    study, places = steps.select(options.place)
    print(stale.explain(stale.State(study), places))


def _run(options: Options) -> int:
    """Make single runs: execute the notebook of a step with a parameter file."""
    from iqa.app import run, steps
    from iqa.study import disk, param_files

    overrides = {}
    for key, text in options.pairs:
        if key in overrides:
            raise Mistake(f"-p {echo.cut(key)}: set twice; leave one out")
        overrides[key] = param_files.parse(text, f"-p {echo.cut(key)} {echo.cut(text)}")
    for place in [place for name in options.runs for place in steps.locate(name)]:
        try:
            run.run(*place, overrides)
        except Exception as error:
            if not options.note or (words := _words(error)) is None:
                raise
            name = f"{place[1]}/{place[2]}"
            print(f"[{name}] failed: {echo.cut(words.splitlines()[0].removeprefix(f'{name}: '))}", file=sys.stderr)
            disk.write_whole(options.note, words)  # for the pipeline, which tells it at its end
            return 1
        except KeyboardInterrupt:
            if not options.note:
                raise
            return 130
    return 0


def _accept(options: Options) -> None:
    """Let results stand that are out of date, such as after a change that alters none of them."""
    from iqa.app import stale, steps

    study, places = steps.select(options.places)
    accepted = stale.State(study).accept(places, options.because)
    print(*(f"{'/'.join(place)} stands" for place in accepted), sep="\n")
    print(f"{len(accepted)} of {len(places)} runs were accepted; the report shows it once it is made again")


def _table(options: Options) -> None:
    """Make one table of a report again, as CSV, Markdown and LaTeX."""
    import pandas as pd

    from iqa.app import run
    from iqa.report import appendix
    from iqa.show import tables

    found = appendix.of_study(options.study)
    if options.table is None:
        _print_table(pd.DataFrame({"name": list(found.titles), "table": list(found.titles.values())}))
        return
    run.refresh(options.study, *found.of_run(options.table))
    files = found.write([options.table], paths.REPORT / options.study / "tables")
    print(tables.markdown(found[options.table]))
    print(*map(paths.shown, files), sep="\n")


def _evaluate(options: Options) -> None:
    """Compare the scores of models with those of people, on whole databases.

    A model is also a folder of model files, for all of them. Images are brought to the size and the colours of each
    model, as when it scores files, whatever the database's own. By default, the crops of its own test are scored.
    """
    from iqa.analysis import evaluation
    from iqa.app.predict import attempt
    from iqa.data.prepare import open_available
    from iqa.model.predictor import load_model
    from iqa.show import cross_dataset
    from iqa.study import disk, param_files, results
    from iqa.study.progress import bar

    names = options.databases or param_files.run_names(options.study, "data_prep")
    if not names:
        raise Mistake(f"params/{options.study}/data_prep/ holds no database; name another study")
    models = {source: load_model(source, options.device, options.size) for source in _model_files(options.models)}
    opened, missing = open_available(options.study, names)
    how = {key: getattr(options, key) for key in ("crops", "patches", "batch_size", "seed")}
    pairs = [(model, name) for model in models for name in opened]
    scored, rows = {}, []
    for model, name in bar(pairs, total=len(pairs), desc="scoring", unit="database"):
        database, scale = opened[name], models[model].scale
        table = evaluation.score(models[model], database, **how, label=f"scoring {name} with {model}")
        about = {"model": model, "trained_on": scale.of, "database": name, "title": database.title, "available": True}
        measured = evaluation.evaluate(
            table, options.resamples, seed=options.seed or 0, uncalibrated=scale.uncalibrated
        )
        further = {"ceiling_srcc": database.ceiling_srcc(), "plcc_fitted5": evaluation.fitted5(table)}
        scored[model, name] = table
        rows.append(about | measured | further)
    trained_on = {model: predictor.scale.of for model, predictor in models.items()}
    cross = evaluation.cross_table(rows, trained_on, missing)
    unwritten: list[str] = []
    if options.csv:
        attempt(unwritten, options.csv, disk.write_whole, options.csv.resolve(), cross.to_csv(index=False))
    if options.json:
        found = evaluation.results_json(scored, cross)
        attempt(unwritten, options.json, results.write_json, options.json.resolve(), found)
    for table in (cross_dataset.cross_database_table(cross), cross_dataset.cross_further_table(cross)):
        _print_table(table)
        print()
    print("In brackets: 95% bootstrap intervals over the images' contents.")
    for name, why in missing.items():
        print(f"{name} is not available: {why['reason']}", file=sys.stderr)
    if unwritten:
        raise Mistake(f"could not be written: {'; '.join(unwritten)}")


def _describe(options: Options) -> None:
    """Print the parts of a model with their shapes and parameters.

    A model is also a training run that is not finished, or the parameter file of one.
    """
    from iqa.model.architecture import describe
    from iqa.show.train import architecture_table

    name, network, crop, rule = _network(options.model)
    height, width = options.height or crop, options.width or crop
    with _bounded(network, height, width):
        found = describe(network, height, width)
    print(f"{name}: {found['name']}, {found['parameters']:,} parameters, input {found['input']} (channels, H, W)")
    print(rule)
    _print_table(architecture_table(found))


def _complexity(options: Options) -> None:
    """Measure what models cost: parameters, MACs, time and memory.

    A model is also a training run that is not finished, or the parameter file of one. `--device all` measures on the
    CPU and on every GPU.
    """
    import pandas as pd

    from iqa.analysis import complexity, speed
    from iqa.analysis.params import ComplexityParams
    from iqa.show import complexity as show

    sizes = options.batch_sizes or ([1] if options.quick else [1, 8])
    how = {"devices": ["cpu"] if options.quick else [options.device], "precisions": ["32-true"], "batch_sizes": sizes}
    how |= {"warmup": 1, "repeats": 5, "seconds": 1.0} if options.quick else {}
    counters = complexity.QUICK if options.quick else tuple(complexity.COUNTERS)
    costs, timed = [], []
    for source in options.models:
        name, model, crop, _ = _network(source)
        height, width = options.height or crop, options.width or crop
        about = {"run": name, "backbone": model.params.backbone, "fusion": model.params.fusion_or_head}
        try:
            with _bounded(model, height, width):
                counted = {counter: complexity.COUNTERS[counter](model.eval(), height, width) for counter in counters}
        except ModuleNotFoundError as error:
            raise Mistake(f"{error.name} is not installed; --quick needs neither ptflops nor thop") from None
        costs.append(about | complexity.complexity(model, height, width, counted))
        params = ComplexityParams.build({**how, "height": height, "width": width}, "iqa complexity")
        for setting in speed.settings(params):
            timed += [{"run": name} | row for row in speed.speeds(model, setting, params)]
    measured = pd.DataFrame(timed, columns=speed.SPEEDS)
    shapes = dict.fromkeys(f"{row['height']}x{row['width']}" for row in costs)
    print(f"MACs (2 FLOPs each) of one image of {' and '.join(shapes)} pixels")
    throughput = [] if options.quick else [show.throughput_table(measured)]
    for table in (show.complexity_table(pd.DataFrame(costs)), show.latency_table(measured), *throughput):
        _print_table(table)
        print()
    print(*show.where_measured(measured), sep="\n")


def _predict(options: Options) -> int:
    """Score photographs with a trained model.

    A folder stands for all files in it and in its subfolders that have the suffix of an image; hidden files and those
    of the system are left out, and others are counted. A file that is named is tried whatever its suffix. A file that
    is named twice is scored once. By default, those crops are scored that the model was tested with.

    The file of --csv gets each score at once. It and that of --json replace earlier ones. Whatever happens, the scores
    that were made are printed and written, and the images without a score are listed with the reasons.

    Exit status: 0 if all images were scored; 1 if nothing was done, as the command, the model or a folder cannot be
    used, or if the scores could not be printed; 2 if some images could not be read or scored, or a file or a map could
    not be written; 130 after Ctrl-C and 143 after a request to end (SIGTERM), where images were not reached.
    """
    from iqa.app import predict

    found = predict.predict(options)
    try:
        print(found.heading())
        _print_table(found.table())
        print(found.summary())
        _end_output()
    finally:
        if lacking := found.lacking():
            print(f"\n{lacking}", file=sys.stderr)
    if found.crash:
        raise found.crash
    return found.status


def _export(options: Options) -> None:
    """Write a model as an ONNX file for other programs, and check it.

    Without --height and --width, it scores images of any size from the crop upwards.
    """
    import pandas as pd

    from iqa.model.export import export
    from iqa.model.predictor import load_model

    model = load_model(options.model, "cpu")
    found = export(model, options.file, options.height, options.width)
    inputs = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in found["inputs"].items())
    print(f"{found['file']}: {model.name}, {found['bytes'] / 1e6:.1f} MB, opset {found['opset']}, input {inputs}")
    print("largest difference from PyTorch, on scores 0 to 1:")
    checks = pd.DataFrame(found["checks"])
    _print_table(checks.assign(difference=checks["difference"].map("{:.1e}".format)).astype(str))


def _publish(options: Options) -> None:
    """Pack the report, parameters, results and best models of a study into one archive, ready for Zenodo."""
    from iqa.app import publish

    print(publish.publish(options.study, options.archive, options.as_it_is))


def _fetch(options: Options) -> None:
    """Check an archive of `iqa publish`, and put what it holds where it belongs.

    Nothing that is here already is changed: an archive whose results or parameters differ is refused.
    """
    from iqa.app import publish

    print(publish.fetch(options.archive))


def _print_table(table: "pd.DataFrame") -> None:
    """Print a table in columns; those in `LEFT` hold text and are set left, the others right."""
    from tabulate import tabulate

    from iqa.show.tables import rounded

    sides = ["left" if name in LEFT else "right" for name in table]
    rows = [list(table), *rounded(table).itertuples(index=False)]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides))


def _model_files(sources: tuple[str, ...]) -> list[str]:
    """The models, with its model files in place of a folder; the results folder of a run is one model."""
    models = []
    for source in sources:
        files = sorted(str(file) for file in Path(source).glob("*") if file.suffix in (".pt", ".pth", ".pkl"))
        models += files if files and not Path(source, "best.pt").is_file() else [source]
    return models


@contextmanager
def _bounded(network: "HyperIQA", height: int, width: int) -> Iterator[None]:
    """Stop a forward pass before the system ends the process for want of memory."""
    from iqa.model.memory import Live, available

    try:
        with Live([*network.parameters()], available()):
            yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        words = f"{height}x{width} pixels need more memory than there is; set a smaller --height and --width"
        raise Mistake(words) from None


def _network(source: str) -> tuple[str, "HyperIQA", int, str]:
    """Name, network, crop and rule of scoring of a model that is trained, or that a parameter file describes."""
    from iqa.analysis import complexity
    from iqa.app import steps
    from iqa.model.predictor import load_model
    from iqa.study import param_files, results
    from iqa.training.params import TrainParams

    study, _, run = source.partition("/")
    trainings = param_files.run_names(study, "train") if study in param_files.studies() else []  # else it is a path
    waiting = run in trainings and not results.finished(study, "train", run)
    if not waiting and not source.endswith((".yaml", ".yml")):
        model = load_model(source, "cpu")
        return model.name, model.network, model.crop, f"scored: {model.rule}; scores from {model.scale}"
    study, step, run = steps.locate(f"{study}/train/{run}" if waiting else source)[0]
    if step != TrainParams.step:
        raise Mistake(f"{source} describes no model: it is a run of {step}, not of train")
    params = param_files.load(TrainParams, study, run)
    rules = "scored: {rule}; for validation: {validation_rule}".format(**params.rules())
    return f"{study}/{Path(source).stem}, not trained", complexity.build(params), params.crop, rules


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|all|cpu|(cuda|mps|xpu)(:\d{1,3})?", text):
        raise ValueError(f"device '{text}' cannot be used; name auto, cpu, cuda or cuda:1")
    return text


def _writable(text: str) -> Path:
    """Refuse at once a file that could not be written after all of the work."""
    file = Path(text)
    try:
        if file.exists() and not file.is_file():
            raise OSError(0, "it is no file")
        if file.exists() and any(os.path.samestat(file.stat(), os.fstat(number)) for number in (1, 2)):
            raise OSError(0, "what is printed goes there")
        if file.exists() and not os.access(file, os.W_OK):
            raise OSError(0, "you may not change it")
        part = file.resolve().with_name(f".{file.resolve().name}.part")  # beside it, where the new file is made
        part.touch()
        part.unlink()
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ValueError(f"{text} cannot be written ({reason}); name a file in a folder where you may write") from None
    return file


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise ValueError(f"'{text}' is not a whole number from {least} to {most:,}")
        return int(text)

    return read


def _several(read: Callable[[str], Any]) -> Callable[[str], list]:
    return lambda text: [read(part.strip()) for part in text.split(",")]


def _part(names: str, words: str, default: Any = None, kind: Any = None, **how: Any) -> click.Parameter:
    """An argument, or an option. A default in brackets says what the command does where the option is not given."""
    is_option, in_brackets = names.startswith("-"), str(default).startswith("(")
    if default is not None and not in_brackets:
        how |= {"default": str(default)} | ({"show_default": True} if is_option else {})
    elif in_brackets:
        how |= {"show_default": default[1:-1]}
    return (click.Option if is_option else click.Argument)(names.split(), type=kind, help=words, **how)


PLACE = "<study>, <study>/<step> or <study>/<step>/<run>"
MODEL = "<study>/<run>, the results folder of a training run, or a model file"
MANY = {"nargs": -1, "required": True}
FILE = {"kind": _writable, "metavar": "FILE"}
COLOURS = {"nargs": 3, "metavar": "R G B"}
TESTED, CROP = "(as in the model's test)", "(the model's crop)"
PARTS = [
    _part("name", "Name of the study, a new folder of params/."),
    _part("study", "A folder of params/; by default demo.", "demo"),
    _part("place", f"{PLACE}; by default demo.", "demo", metavar="[NAME]"),
    _part("places", f"{PLACE}.", metavar="NAME"),
    _part("runs", "<study>/<step>/<run>, or a parameter file.", metavar="RUN...", **MANY),
    _part("table", "Name of the table; without one, the names are listed.", required=False, metavar="[NAME]"),
    _part("models", f"{MODEL}.", metavar="MODEL...", **MANY),
    _part("model", f"{MODEL}."),
    _part("images", "Files, and folders whose images are scored.", metavar="IMAGE|FOLDER...", **MANY),
    _part("file", "File to write, such as model.onnx.", kind=_writable),
    _part("archive", "A file that `iqa publish` wrote.", kind=Path),
    _part("--images", "Folder of the photographs, with its subfolders.", metavar="FOLDER"),
    _part("--labels", "Table of their scores: CSV, or an Excel workbook.", metavar="FILE"),
    _part("--from source", "Copy this study in place of --images and --labels.", metavar="STUDY"),
    _part("--image-column", "Column of their names.", "(the one that names them)", metavar="NAME"),
    _part("--score-column", "Column of the scores.", "(called mos, score, quality, ...)", metavar="NAME"),
    _part("--low", "Lowest possible score.", "(that of a usual scale that holds all)", float, metavar="SCORE"),
    _part("--high", "Highest possible score.", "(that of a usual scale that holds all)", float, metavar="SCORE"),
    _part("--direction", "Which scores are better.", "(lower for a column dmos)", click.Choice(["higher", "lower"])),
    _part("--backbone", "A network of timm.", "(a small one; with a GPU resnet50)", metavar="NAME"),
    _part("--weights", "imagenet (timm downloads them), none (from scratch), or a file.", "(imagenet)", metavar="NAME"),
    _part("--mean", "Of the input on 0..1.", "(timm's for the backbone)", float, **COLOURS),
    _part("--std", "Standard deviation of the input.", "(timm's for the backbone)", float, **COLOURS),
    _part("--epochs", "Passes over the training images.", "(5 to 20, by their number)", _whole(1, 10_000), metavar="N"),
    _part("--seeds", "Trainings of each experiment.", "(2)", _whole(1, 100), metavar="N"),
    _part(
        "--ablation", "With a linear head, or half of the images.", "(head)", click.Choice(["head", "share", "none"])
    ),
    _part("--title", "Of the report.", metavar="TEXT"),
    _part("-p pairs", "Set KEY to VALUE; may be repeated.", nargs=2, multiple=True, metavar="KEY VALUE"),
    _part("--note", "File for an error.", kind=Path, hidden=True),
    _part("--because", "The reason; the report shows it.", required=True, metavar="TEXT"),
    _part("--jobs", "Cores that runs share; with --profile: jobs at once.", "(all)", _whole(1, 10_000), metavar="N"),
    _part("--runs-per-gpu", "Runs that share a GPU of this machine.", 1, _whole(1, 64), metavar="N"),
    _part("--profile", "Send each run to a cluster: slurm, kubernetes, or a folder of your own.", metavar="NAME"),
    _part("--no-train", "Report what is trained, and the rest as not run.", is_flag=True),
    _part("--dry-run", "Say what would run, and why; run nothing.", is_flag=True),
    _part("--study", "A folder of params/.", "demo", metavar="STUDY"),
    _part("--databases", "Some of the study's databases.", "(all)", _several(str), metavar="NAME,NAME"),
    _part("--model", f"{MODEL}.", "(the newest that is not synthetic)", metavar="MODEL"),
    _part("--size", "HEIGHTxWIDTH to which images are brought, or stored.", "(the model's)", metavar="SIZE"),
    _part("--crops", "What is scored of an image.", TESTED, click.Choice(registered("iqa.data.crops"))),
    _part("--patches", "Crops per image, of grid, random and uniform.", TESTED, _whole(1, 10_000), metavar="N"),
    _part("--fast", "A grid of 16 crops, where the model's rule has more.", is_flag=True),
    _part("--seed", "Of random crops, and of a bootstrap.", TESTED, _whole(0, 2**32 - 1), metavar="N"),
    _part("--resamples", "Of the bootstrap.", 1000, _whole(1, 1_000_000), metavar="N"),
    _part("--csv", "Write the table with all digits, each row as soon as it is known.", **FILE),
    _part("--json", "Write the table and all that belongs to it as JSON.", **FILE),
    _part("--map", "Draw a quality map per image, from crops on a dense grid.", kind=Path, metavar="FOLDER"),
    _part("--stride", "Pixels between the crops of a map.", "(a quarter of a crop)", _whole(1, 10_000), metavar="N"),
    _part("--batch-size", "Crops per forward pass.", "(what suits the device)", _whole(1, 65_536), metavar="N"),
    _part("--precision", "bf16-mixed is quicker.", "32-true", click.Choice(["32-true", "bf16-mixed"])),
    _part("--workers", "Threads that read images ahead.", 4, _whole(1, 256), metavar="N"),
    _part("--device", "cpu, cuda, cuda:1; auto: a GPU if there is one.", "auto", _device, metavar="NAME"),
    _part("--quick", "Take seconds: PyTorch's counter alone (no ptflops, no thop), on the CPU.", is_flag=True),
    _part("--height", "Pixels of the input.", CROP, _whole(1, 16_384), metavar="N"),
    _part("--width", "Pixels of the input.", CROP, _whole(1, 16_384), metavar="N"),
    _part("--batch-sizes", "Images per pass.", "(1,8; quick: 1)", _several(_whole(1, 65_536)), metavar="N,N"),
    _part("--archive", "The archive to write.", "(results/STUDY.zip)", **FILE),
    _part("--as-it-is", "Also where results are out of date.", is_flag=True),
]
ARGUMENTS = {part.opts[0]: part for part in PARTS}
ARGUMENTS |= {  # of `new` alone
    "size": _part("--size", "Shorter side of stored images.", "(12/7 of a crop)", _whole(1, 16_384), metavar="PIXELS"),
    "device": _part("--device", "Of the trainings.", "(auto; with --from: as there)", _device, metavar="NAME"),
}
NEW = "--image-column --score-column --low --high --direction --backbone --weights --mean --std size --epochs --seeds"
CUT = "--size --crops --patches --seed --batch-size --device"
START, RUN, LOOK, USE, SHARE = "Start a study", "Run it", "Look at results", "Use a model", "Share results"
COMMANDS: dict[str, tuple[str, Callable, str]] = {  # with their arguments
    "new": (START, _new, f"name --images --labels --from {NEW} --ablation device --title"),
    "rehearse": (START, _rehearse, "study --jobs --device"),
    "report": (RUN, _report, "study --jobs --runs-per-gpu --profile --no-train --dry-run"),
    "why": (RUN, _why, "place"),
    "run": (RUN, _run, "runs -p --note"),
    "accept": (RUN, _accept, "places --because"),
    "table": (LOOK, _table, "table --study"),
    "evaluate": (LOOK, _evaluate, f"models --study --databases --csv --json {CUT} --resamples"),
    "complexity": (LOOK, _complexity, "models --quick --height --width --batch-sizes --device"),
    "describe": (LOOK, _describe, "model --height --width"),
    "predict": (USE, _predict, f"images --model --csv --json --map --stride --fast {CUT} --precision --workers"),
    "export": (USE, _export, "model file --height --width"),
    "publish": (SHARE, _publish, "study --archive --as-it-is"),
    "fetch": (SHARE, _fetch, "archive"),
}
ANYWHERE = ("predict", "complexity", "describe", "export")  # the others work on a study of a checkout


class Commands(click.Group):
    """The commands, listed in groups."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each with the first line of its help."""
        for title, names in groupby(COMMANDS, lambda name: COMMANDS[name][0]):
            with formatter.section(title):
                formatter.write_dl([(f"{name:<10}", self.commands[name].help.split("\n")[0]) for name in names])


@click.group("iqa", cls=Commands, epilog=EXAMPLES)
@click.version_option(__version__, message="iqa %(version)s")
def commands() -> None:
    """Train models that rate the quality of photographs, test them, and report on them reproducibly."""


def _command(name: str, call: Callable, arguments: str) -> click.Command:
    def callback(**options: Any) -> Any:
        if name not in ANYWHERE and not paths.IN_CHECKOUT:
            raise Mistake(
                f"iqa {name} needs the studies of a checkout, which this installation lacks; "
                "run it in a checkout, with .venv/bin/iqa"
            )
        return call(Options(**options))

    params = [ARGUMENTS[argument] for argument in arguments.split()]
    return click.Command(name, params=params, callback=callback, help=getdoc(call))


for name, (_, call, arguments) in COMMANDS.items():
    commands.add_command(_command(name, call, arguments))


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; what goes wrong is printed."""
    if sys.stderr is None:  # closed: there is no one to tell
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    interrupted: list[int] = []

    def interrupt(number: int, _: Any) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handled and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    try:
        if sys.stdout is None:
            raise Mistake("the standard output is closed; send it to a file, or to /dev/null")
        try:
            return _call(sys.argv[1:] if arguments is None else arguments)
        finally:
            _end_output()
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        return 141
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupted:  # whatever a library makes of it
            print("iqa: interrupted", file=sys.stderr)
            return 130
        if not isinstance(error, Exception) or (words := _words(error)) is None:
            raise  # a bug, whose traceback says where it is
        print(f"iqa: {words}", file=sys.stderr)
        return 1
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _call(arguments: list[str]) -> int:
    if "_IQA_COMPLETE" in os.environ:  # the shell asks what could follow
        commands.main(arguments, prog_name="iqa")
    try:
        with commands.make_context("iqa", arguments or ["--help"], max_content_width=100) as context:
            return commands.invoke(context) or 0
    except click.exceptions.Exit as done:  # as after --help
        return done.exit_code


def _words(error: Exception) -> str | None:
    """What is told of an error in place of a traceback; None for a bug."""
    words = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words:
        return f"there is not enough memory ({words.splitlines()[0][:200] if words else 'MemoryError'})"
    if isinstance(error, click.UsageError):
        told = re.sub(r"\S{81,}", lambda long: echo.cut(long[0]), error.format_message())
        return f"{told}\nsee: {error.ctx.command_path if error.ctx else 'iqa'} --help"
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(map(str, filter(None, (error.filename, error.strerror))))
    return words if type(error).__module__.partition(".")[0] in ("iqa", "__main__") else None


def _end_output() -> None:
    """Write what was printed. Where that fails, drop it, or Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "the standard output") from None


if __name__ == "__main__":
    sys.exit(main())
