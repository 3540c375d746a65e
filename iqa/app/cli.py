"""The `iqa` command: one function per sub-command, which imports what it needs, and a table of their arguments."""

import argparse
import inspect
import os
import re
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from iqa import __version__
from iqa.study import paths
from iqa.study.registry import registered

if TYPE_CHECKING:
    import pandas as pd

    from iqa.model.hyperiqa import HyperIQA

DEMO = "demo/main_s1"
EXAMPLES = f"""\
examples:
  iqa report demo                  bring the demo study up to date and render its report
  iqa why demo                     say which of its runs are due, and why
  iqa predict photo.jpg holiday/   score images with the model of {DEMO}
  iqa evaluate {DEMO}        compare a model's scores with the databases of the demo study
  iqa COMMAND --help               say more about a command
"""
LEFT = {"image", "name", "table", "Model", "Database", "Part", "Detail", "Run", "Backbone", "Fusion", "Device"}
LEFT |= {"Precision", "Reason", "Stopped by", "place", "problem", "experiment"}


class Mistake(ValueError):
    """A command that cannot be carried out; the message says why."""


def _new(options: Namespace) -> None:
    """Make a study of one's own images and scores, or a copy of another study.

    The columns of the table, the scale of its scores, and the sizes of images, crops and trainings are found in the
    data, and printed. What stands in brackets is taken where nothing else is said. An existing study stays as it is.
    """
    from iqa.app import new

    given = {key: value for key, value in vars(options).items() if value is not None}
    new.start(given.pop("study_name"), {key: value for key, value in given.items() if key not in ("call", "command")})


def _run(options: Namespace) -> None:
    """Execute the notebook of a step with a parameter file."""
    from iqa.app import run, steps
    from iqa.study import param_files
    from iqa.study.echo import cut

    overrides = {}
    for key, text in options.overrides:
        if key in overrides:
            raise Mistake(f"-p {cut(key)}: set twice; leave one out")
        overrides[key] = param_files.parse(text, f"-p {cut(key)} {cut(text)}")
    for place in [place for name in options.runs for place in steps.locate(name)]:
        run.run(*place, overrides)


def _report(options: Namespace) -> None:
    """Bring a study up to date and render its report."""
    from iqa.app import graph

    if options.dry_run:
        graph.print_due(options.study, not options.no_train)
    else:
        graph.report(options.study, options.jobs, not options.no_train, options.profile, options.runs_per_gpu)


def _rehearse(options: Namespace) -> int:
    """Run a whole study with stand-ins for images and networks, and forecast what the real one costs.

    Its report lies in cache/rehearsals/STUDY/report/STUDY/. Exit status: 0 if every run worked, else 1.
    """
    import time

    from iqa.app import rehearsal, steps
    from iqa.study import paths

    started = time.perf_counter()
    home, found = rehearsal.rehearse(options.study, options.jobs)
    minutes = (time.perf_counter() - started) / 60
    unfinished = found["problem"].str.match("failed|not run")
    print(f"\n{options.study}: rehearsed in {minutes:.1f} min; {paths.shown(home / 'report' / options.study)}")
    print(f"{len(list(steps.all_params(options.study)))} runs, {unfinished.sum()} of them not finished", end="; ")
    print(f"{(~unfinished).sum()} tables and figures are empty or hard to read")
    if len(found):
        _print_table(found)
    cost = rehearsal.forecast(options.study, options.device)
    device = rehearsal.choose_device(options.device).type
    print(f"\nForecast of the real trainings on this machine's {device}:")
    _print_table(cost)
    hours, disk = cost["total_hours"].sum(), (cost["disk_gb"] * cost["runs"]).sum()
    cached = rehearsal.cache_gb(options.study)
    print(f"{cost['runs'].sum()} trainings, {hours:,.1f} {device} hours; {disk:.1f} GB of models", end=", ")
    print(f"{cached:.1f} GB of pixels")
    return int(unfinished.any())


def _why(options: Namespace) -> None:
    """Say which runs are due, and why."""
    from iqa.app import stale, steps

    study, places = steps.select(options.place)
    print(stale.explain(stale.State(study), places))


def _accept(options: Namespace) -> None:
    """Let results stand that are due, such as after a change that alters none of them."""
    from iqa.app import stale, steps

    study, places = steps.select(options.name)
    accepted = stale.State(study).accept(places, options.because)
    print(*(f"{'/'.join(place)} stands" for place in accepted), sep="\n")
    print(f"{len(accepted)} of {len(places)} runs were accepted; the report shows it once it is made again")


def _table(options: Namespace) -> None:
    """Make one table of a report, as CSV, Markdown and LaTeX."""
    import pandas as pd

    from iqa.app import run
    from iqa.report import appendix
    from iqa.show import tables
    from iqa.study import paths

    found = appendix.of_study(options.study)
    if options.table is None:
        _print_table(pd.DataFrame({"name": list(found.titles), "table": list(found.titles.values())}))
        return
    run.refresh(options.study, *found.of_run(options.table))
    files = found.write([options.table], appendix.table_folder(options.study))
    print(tables.markdown(found[options.table]))
    print(*map(paths.shown, files), sep="\n")


def _predict(options: Namespace) -> int:
    """Score images with a trained model.

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
    from iqa.study import results

    try:
        found = predict.predict(options)
    except results.ResultsError as error:
        hint = "; or make the whole demo study with: make report" if options.model == DEMO else ""
        raise Mistake(f"{error}{hint}") from None
    try:
        print(f"{found.model.name}: scores from {found.model.scale}")
        _print_table(found.table())
        print(found.summary())
        _end_output()
    finally:
        if lacking := found.lacking():
            print(f"\n{lacking}", file=sys.stderr)
    if found.crash:
        raise found.crash
    return found.status


def _print_table(table: "pd.DataFrame") -> None:
    """Print a table in columns; those in `LEFT` hold text and are set left, the others right."""
    from tabulate import tabulate

    from iqa.show.tables import rounded

    sides = ["left" if name in LEFT else "right" for name in table]
    rows = [list(table), *rounded(table).itertuples(index=False)]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides))


def _evaluate(options: Namespace) -> None:
    """Compare the scores of models with the MOS of whole databases.

    A model is also a folder of model files, for all of them. Images are brought to the size and the colours of each
    model, as when it scores files, whatever the database's own. By default, the crops of its own test are scored.
    `--json` writes coefficients and predictions, as eval_results.json holds them.
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
    changes = {"crops": options.crops, "patches": options.patches, "batch_size": options.batch_size}
    pairs = [(model, name) for model in models for name in opened]
    scored, rows = {}, []
    for model, name in bar(pairs, total=len(pairs), desc="scoring", unit="database"):
        scored[model, name] = evaluation.score(models[model], opened[name], **changes, seed=options.seed)
        about = {"model": model, "trained_on": models[model].scale.of, "database": name, "title": opened[name].title}
        uncalibrated = models[model].scale.uncalibrated
        how = {"seed": options.seed or 0, "uncalibrated": uncalibrated}
        measured = evaluation.evaluate(scored[model, name], options.resamples, **how)
        rows.append(about | {"available": True, "ceiling_srcc": opened[name].ceiling_srcc()} | measured)
        rows[-1]["plcc_fitted5"] = evaluation.fitted5(scored[model, name])
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


def _model_files(sources: list[str]) -> list[str]:
    """The models, with its model files in place of a folder; the results folder of a run is one model."""
    models = []
    for source in sources:
        files = sorted(str(file) for file in Path(source).glob("*") if file.suffix in (".pt", ".pth", ".pkl"))
        models += files if files and not Path(source, "best.pt").is_file() else [source]
    return models


def _complexity(options: Namespace) -> None:
    """Print what models cost: parameters, MACs, time and memory.

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


def _describe(options: Namespace) -> None:
    """Print a model's architecture.

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


def _export(options: Namespace) -> None:
    """Write a model to a file for other programs, and check it."""
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


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text[:80]}' is not a whole number from {least} to {most:,}")
        return int(text)

    return read


def _number(least: int, most: int) -> dict[str, Any]:
    return {"type": _whole(least, most), "metavar": "N"}


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|all|cpu|(cuda|mps|xpu)(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"device '{text[:80]}' cannot be used; name auto, cpu, cuda or cuda:1")
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
        words = f"{text[:80]} cannot be written ({reason}); name a file in a folder where you may write"
        raise argparse.ArgumentTypeError(words) from None
    return file


CUT = "--size --crops --patches --seed --batch-size --device"
STUDIED = ("new", "run", "report", "why", "accept", "table", "evaluate")  # commands that work on a study
COMMANDS = {  # with the arguments that each takes
    "new": (_new, "study_name"),
    "run": (_run, "runs -p"),
    "report": (_report, "study --jobs --runs-per-gpu --profile --no-train --dry-run"),
    "rehearse": (_rehearse, "study --jobs --device"),
    "why": (_why, "place"),
    "accept": (_accept, "name --because"),
    "table": (_table, "table --study"),
    "predict": (_predict, f"images --model --csv --json --map --stride {CUT} --precision --workers"),
    "evaluate": (_evaluate, f"models --study --databases --csv --json {CUT} --resamples"),
    "complexity": (_complexity, "models --quick --height --width --batch-sizes --device"),
    "describe": (_describe, "model --height --width"),
    "export": (_export, "model file --height --width"),
}
PLACE = "<study>, <study>/<step> or <study>/<step>/<run>"
MODEL = "<study>/<run>, the results folder of a training run, or a model file"
SIDE = {"type": _whole(1, 16_384), "metavar": "PIXELS"}
TEXT = {"metavar": "FILE", "type": _writable}
YES = {"action": "store_true"}
PAIRS = {"dest": "overrides", "nargs": 2, "action": "append", "default": [], "metavar": ("KEY", "VALUE")}
ARGUMENTS: dict[str, tuple[str, dict[str, Any]]] = {  # the help, and what else argparse takes
    "runs": ("<study>/<step>/<run>, or the path of a parameter file", {"nargs": "+", "metavar": "RUN"}),
    "study_name": ("of the study, a folder of params/ that does not exist yet", {"metavar": "STUDY"}),
    "study": ("a folder of params/ (%(default)s)", {"nargs": "?", "default": "demo", "metavar": "STUDY"}),
    "place": (f"{PLACE} (%(default)s)", {"nargs": "?", "default": "demo", "metavar": "NAME"}),
    "name": (PLACE, {"metavar": "NAME"}),
    "table": ("name of the table; without one, the names are listed", {"nargs": "?", "metavar": "NAME"}),
    "images": ("a file, or a folder whose images are scored", {"nargs": "+", "metavar": "IMAGE|FOLDER"}),
    "models": (MODEL, {"nargs": "+", "metavar": "MODEL"}),
    "model": (MODEL, {"metavar": "MODEL"}),
    "file": ("file to write, such as model.onnx", {"metavar": "FILE", "type": _writable}),
    "-p": ("set a parameter to a value, written as in a parameter file; may be repeated", PAIRS),
    "--because": ("the reason; the report shows it", {"required": True, "metavar": "TEXT"}),
    "--jobs": ("cores that the runs share (all); with --profile: jobs at once", _number(1, 10_000)),
    "--runs-per-gpu": ("runs that share a GPU of this machine (%(default)s)", _number(1, 64) | {"default": 1}),
    "--profile": ("send each run to a cluster: slurm, kubernetes, or a folder of one's own", {"metavar": "NAME"}),
    "--no-train": ("report what is trained, and the rest as not run", YES),
    "--dry-run": ("say what would run, and why", YES),
    "--study": ("a folder of params/ (%(default)s)", {"default": "demo"}),
    "--databases": ("some of the study's databases (all)", {"nargs": "+", "metavar": "NAME"}),
    "--model": (f"{MODEL} (%(default)s)", {"default": DEMO}),
    "--size": ("HEIGHTxWIDTH or stored: not the model's own size, but this, or each image's own", {}),
    "--crops": ("what is scored of an image", {"choices": registered("iqa.data.crops")}),
    "--patches": ("number of crops per image: grid, random, uniform", _number(1, 10_000)),
    "--seed": (
        "of random crops, and of the bootstrap; by default 0, or the model's own to predict",
        _number(0, 2**32 - 1),
    ),
    "--resamples": ("of the bootstrap (%(default)s)", _number(1, 1_000_000) | {"default": 1000}),
    "--csv": ("write the table with all digits, each row as soon as it is known", TEXT),
    "--json": ("write the table and all that belongs to it as JSON", TEXT),
    "--map": ("draw a quality map per image, from crops on a dense grid", {"metavar": "FOLDER", "type": Path}),
    "--stride": ("pixels between the crops of a map (a quarter of a crop)", _number(1, 10_000)),
    "--batch-size": ("crops per forward pass (what suits the device)", _number(1, 65_536)),
    "--precision": ("bf16-mixed is quicker", {"choices": ("32-true", "bf16-mixed"), "default": "32-true"}),
    "--workers": ("threads that read images ahead (%(default)s)", _number(1, 256) | {"default": 4}),
    "--device": ("auto (a GPU if there is one), cpu, cuda, cuda:1 (%(default)s)", {"default": "auto", "type": _device}),
    "--quick": ("take seconds: PyTorch's counter alone (no ptflops, no thop), on the CPU", YES),
    "--height": ("height of the input (the model's crop; export: free)", SIDE),
    "--width": ("width of the input", SIDE),
    "--batch-sizes": ("images per pass, rising (1 8; quick: 1)", _number(1, 65_536) | {"nargs": "+"}),
}


class Parser(argparse.ArgumentParser):
    """argparse that raises `Mistake` for a wrong call."""

    def error(self, message: str) -> NoReturn:
        raise Mistake(f"{message}\nsee: {self.prog} --help")


def _parser() -> Parser:
    form = argparse.RawDescriptionHelpFormatter
    about = "Reproducible study of HyperIQA and its successors."
    parser = Parser(prog="iqa", description=about, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"iqa {__version__}", help="print the version")
    parser.set_defaults(call=lambda _: parser.print_help(), command="")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (call, arguments) in COMMANDS.items():
        words = inspect.getdoc(call) or ""
        added = commands.add_parser(name, help=words.splitlines()[0], description=words, formatter_class=form)
        added.set_defaults(call=call, command=name)
        for argument in arguments.split():
            added.add_argument(argument, help=ARGUMENTS[argument][0], **ARGUMENTS[argument][1])
        if name == "new":
            from iqa.app.new import OPTIONS

            for option, (help, more) in OPTIONS.items():
                added.add_argument(option, help=help, **more)
    return parser


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
            return _call(arguments)
        finally:
            _end_output()
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        return 141
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupted:  # whatever a library makes of it
            print("iqa: interrupted", file=sys.stderr)
            return 130
        if not isinstance(error, Exception):
            raise
        words = str(error)
        if isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words:
            words = f"there is not enough memory ({words.splitlines()[0][:200] if words else 'MemoryError'})"
        elif isinstance(error, OSError) and error.strerror:
            words = ": ".join(map(str, filter(None, (error.filename, error.strerror))))
        elif type(error).__module__.partition(".")[0] not in ("iqa", "__main__"):
            raise  # a bug, whose traceback says where it is
        print(f"iqa: {words}", file=sys.stderr)
        return 1
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _call(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    if options.command in STUDIED and not paths.IN_CHECKOUT:
        raise Mistake(
            f"iqa {options.command} needs the studies of a checkout, which this installation lacks; "
            "run it in a checkout, with .venv/bin/iqa"
        )
    return options.call(options) or 0


def _end_output() -> None:
    """Write what was printed. Where that fails, drop it, or Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(error.errno, error.strerror, "the standard output") from None


if __name__ == "__main__":
    sys.exit(main())
