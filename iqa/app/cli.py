"""The `iqa` command: one function per sub-command, which imports what it needs."""

import argparse
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from iqa import __version__
from iqa.study.registry import registered

if TYPE_CHECKING:
    from iqa.model.hyperiqa import HyperIQA
    from iqa.model.predictor import PatchScores, Predictor


DEMO = "demo/main_s1"
PREDICT = """\
Score images with a trained model. Folders are searched with all that is in them for files with the suffix of an image;
a file that is named is tried whatever its suffix; the same file is scored once.

Exit status: 0 all images were scored; 1 nothing was done, as the command, the model or a folder cannot be used;
2 some images could not be read: they are listed at the end with their reasons, the others were scored.
"""


class Mistake(ValueError):
    """A command that cannot be carried out; the message says why."""


class Parser(argparse.ArgumentParser):
    """argparse, with exit status 1 for a wrong call: 2 says that some images could not be read."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"iqa: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    from iqa.app.run import RunFailed
    from iqa.app.stale import AcceptError
    from iqa.data import DataError
    from iqa.report.reader import ReportError
    from iqa.study.code import CodeError
    from iqa.study.disk import DiskError
    from iqa.study.params import ParameterError
    from iqa.study.paths import PathError
    from iqa.study.results import ResultsError

    try:
        status = options.call(options)
        sys.stdout.flush()
        return status
    except (Mistake, ParameterError, CodeError, DataError, DiskError, PathError, ReportError, ResultsError) as error:
        print(f"iqa: {error}", file=sys.stderr)
        return 1
    except (AcceptError, RunFailed) as error:
        print(f"iqa: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read what is printed, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> Parser:
    parser = Parser(prog="iqa", description="Reproducible study of HyperIQA and its successors.")
    parser.add_argument("--version", action="version", version=f"iqa {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="execute the notebook of a step with a parameter file")
    run.add_argument("runs", nargs="+", metavar="RUN", help="<study>/<step>/<run>, or the path of a parameter file")
    run.add_argument("-p", dest="overrides", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    run.set_defaults(call=_run)

    report = commands.add_parser("report", help="bring a study up to date and render its report")
    report.add_argument("study", nargs="?", default="demo")
    add = report.add_argument
    add("--jobs", type=_positive, metavar="N", help="cores that the runs share (all); with --profile: jobs at once")
    add("--runs-per-gpu", type=_positive, default=1, metavar="N", help="runs that share a GPU here (%(default)s)")
    add("--profile", metavar="NAME", help="each run is a job of a cluster: slurm, kubernetes, or a folder of one's own")
    report.add_argument("--no-train", action="store_true", help="report what is trained, and the rest as not run")
    report.add_argument("--dry-run", action="store_true", help="say what would run, and why")
    report.set_defaults(call=_report)

    named = "<study>, <study>/<step> or <study>/<step>/<run>"
    why = commands.add_parser("why", help="say which runs are due, and why")
    why.add_argument("name", nargs="?", default="demo", metavar="NAME", help=f"{named} (%(default)s)")
    why.set_defaults(call=_why)

    accept = commands.add_parser("accept", help="let results stand that are due, as after a change that alters none")
    accept.add_argument("name", metavar="NAME", help=named)
    accept.add_argument("--because", required=True, metavar="TEXT", help="the reason; the report shows it")
    accept.set_defaults(call=_accept)

    table = commands.add_parser("table", help="make one table of a report, as CSV, Markdown and LaTeX")
    table.add_argument("name", nargs="?", metavar="NAME", help="its name; without one, the names are listed")
    table.add_argument("--study", default="demo", help="(%(default)s)")
    table.set_defaults(call=_table)

    _add_predict(commands)

    _add_evaluate(commands)

    _add_complexity(commands)

    model = "study/run, the results folder of a training run, or a model file"
    untrained = "params/<study>/train/<run>.yaml, not yet trained"
    describe = commands.add_parser("describe", help="print a model's architecture")
    describe.add_argument("model", metavar="MODEL", help=f"{model}; or {untrained}")
    _add_size(describe, "default: the model's crop")
    describe.set_defaults(call=_describe)

    export = commands.add_parser("export", help="write a model to a file for other programs, and check it")
    export.add_argument("model", metavar="MODEL", help=model)
    export.add_argument("file", metavar="FILE", type=Path)
    _add_size(export, "default: free where the network allows it")
    export.set_defaults(call=_export)
    return parser


def _add_predict(commands: argparse._SubParsersAction) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    predict = commands.add_parser("predict", help="score images", description=PREDICT, formatter_class=raw)
    predict.add_argument("images", nargs="+", metavar="IMAGE|FOLDER")
    add = predict.add_argument
    add("--model", default=DEMO, metavar="MODEL", help="study/run, a results folder, or a model file (%(default)s)")
    add("--crops", choices=registered("iqa.data.crops"), help="what is scored of an image (grid)")
    add("--patches", type=_positive, default=25, metavar="N", help="crops per image: grid, random (%(default)s)")
    add("--seed", type=int, default=0, help="of random crops (%(default)s)")
    add("--csv", type=Path, metavar="FILE", help="write the table, every digit of it")
    add("--json", type=Path, metavar="FILE", help="write table, settings and errors")
    add("--map", type=Path, metavar="FOLDER", help="write a quality map of each image; crops then lie on a dense grid")
    add("--stride", type=_positive, metavar="N", help="pixels between the crops of a map (a quarter of the crop)")
    add("--batch-size", type=_positive, metavar="N", help="crops per forward pass (what suits device and crop)")
    add("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="bf16-mixed is quicker (%(default)s)")
    add("--workers", type=_positive, default=4, metavar="N", help="threads that read images ahead (%(default)s)")
    add("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1 (%(default)s)")
    predict.set_defaults(call=_predict)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    evaluate = commands.add_parser("evaluate", help="agreement of models with the MOS of whole databases")
    add = evaluate.add_argument
    named = "study/run, a results folder, a model file, or a folder of model files"
    add("models", nargs="+", metavar="MODEL", help=named)
    add("--study", default="demo", help="whose databases, params/<study>/data_prep/ (%(default)s)")
    add("--databases", nargs="+", metavar="NAME", help="some of them (all)")
    add("--crops", choices=registered("iqa.data.crops"), help="what is scored (as each model's own test)")
    add("--patches", type=_positive, metavar="N", help="crops per image: grid, random (as each model's own test)")
    add("--seed", type=int, default=0, help="of random crops and of the bootstrap (%(default)s)")
    add("--batch-size", type=_positive, metavar="N", help="crops per forward pass")
    add("--resamples", type=_positive, default=1000, metavar="N", help="of the bootstrap (%(default)s)")
    add("--csv", type=Path, metavar="FILE", help="write the table, every digit of it")
    add("--json", type=Path, metavar="FILE", help="write coefficients and predictions as in eval_results.json")
    add("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1 (%(default)s)")
    evaluate.set_defaults(call=_evaluate)


def _add_complexity(commands: argparse._SubParsersAction) -> None:
    complexity = commands.add_parser("complexity", help="print what models cost: parameters, MACs, time, memory")
    add = complexity.add_argument
    named = "study/run (trained or not), a results folder, a model file, or a parameter file of a training"
    add("models", nargs="+", metavar="MODEL", help=named)
    add("--quick", action="store_true", help="seconds, with PyTorch's counter alone (no ptflops, no thop), on the CPU")
    _add_size(complexity, "default: the model's crop")
    add("--batch-sizes", nargs="+", type=_positive, metavar="N", help="images per pass, rising (1 8; quick: 1)")
    add("--device", default="auto", help="auto (a GPU where there is one), all, cpu, cuda, cuda:1 (%(default)s)")
    complexity.set_defaults(call=_complexity)


def _add_size(parser: argparse.ArgumentParser, default: str) -> None:
    for name in ("--height", "--width"):
        parser.add_argument(name, type=_positive, metavar="PIXELS", help=f"of the input ({default})")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def _run(options: argparse.Namespace) -> int:
    from iqa.app import run, steps

    for place in [place for name in options.runs for place in steps.locate(name)]:
        run.run(*place, {key: _value(text) for key, text in options.overrides})
    return 0


def _value(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def _report(options: argparse.Namespace) -> int:
    from iqa.app import graph

    train, profile = not options.no_train, options.profile
    if options.dry_run:
        graph.tell_due(options.study, train)
    else:
        graph.report(options.study, options.jobs, train, profile, options.runs_per_gpu)
    return 0


def _why(options: argparse.Namespace) -> int:
    from iqa.app import stale, steps

    study, places = steps.select(options.name)
    print(stale.explain(stale.State(study), places))
    return 0


def _accept(options: argparse.Namespace) -> int:
    from iqa.app import stale, steps

    study, places = steps.select(options.name)
    accepted = stale.State(study).accept(places, options.because)
    print(*(f"{'/'.join(place)} stands" for place in accepted), sep="\n")
    print(f"{len(accepted)} of {len(places)} runs were accepted; the report shows it once it is made again")
    return 0


def _table(options: argparse.Namespace) -> int:
    from iqa.app import run
    from iqa.report import appendix
    from iqa.show import tables
    from iqa.study import paths

    found = appendix.of_study(options.study)
    if options.name is None:
        _print_columns({"name": list(found.titles), "table": list(found.titles.values())}, left=("name", "table"))
        return 0
    run.refresh(options.study, *found.of_run(options.name))
    files = found.write([options.name], appendix.table_folder(options.study))
    print(tables.markdown(found[options.name]))
    print("\n".join(map(paths.shown, files)))
    return 0


def _load(source: str, device: str) -> "Predictor":
    from iqa.model.checkpoints import CheckpointError
    from iqa.model.predictor import ModelError, load_model
    from iqa.study.results import ResultsError

    try:
        return load_model(source, device)
    except (ModelError, CheckpointError) as error:
        raise Mistake(str(error)) from None
    except ResultsError as error:
        hint = "; or make the whole demo study with: make report" if source == DEMO else ""
        raise Mistake(f"{error}{hint}") from None


def _predict(options: argparse.Namespace) -> int:
    from iqa.model.predictor import Unreadable, find_images
    from iqa.study import progress

    _check_files(options)
    _check(options)
    files, refused = find_images(options.images)
    model = _load(options.model, options.device)
    how = _patches(options, model)
    maps = _map_files(options.map, files) if options.map else {}
    started = time.perf_counter()
    rows = []
    how["precision"] = options.precision
    results = model.score_files(files, options.batch_size, options.workers, **how)
    for file, found in progress.bar(results, total=len(files), desc="scoring", unit="image"):
        if isinstance(found, Unreadable):
            refused.append(found)
            continue
        rows.append(_row(file, found))
        if options.map:
            rows[-1]["map"] = _write_map(model, file, found, maps[file])
    seconds = time.perf_counter() - started

    settings = how | {"batch_size": options.batch_size, "device": str(model.network.mean.device)}
    _write(options, model, settings, rows, refused)
    _print_scores(model, rows, seconds)
    if refused:
        print(f"\niqa: {len(refused)} could not be read:", file=sys.stderr)
        print(*(f"  {_text(error.image)}: {error.reason}" for error in refused), sep="\n", file=sys.stderr)
    return 2 if refused else 0


def _check_files(options: argparse.Namespace) -> None:
    """Refuse what would fail only when everything has been scored."""
    for file in filter(None, (options.csv, options.json)):
        if file.is_dir() or not os.access(file.parent, os.W_OK):
            raise Mistake(f"{file} cannot be written: it is a folder, or its folder is not there or not yours")


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    if options.map and options.crops:
        raise Mistake("--map scores a dense grid of crops; leave out --crops")
    if options.stride and not options.map:
        raise Mistake("--stride belongs to --map")


def _patches(options: argparse.Namespace, model: "Predictor") -> dict[str, Any]:
    """Which patches are scored: what `iqa.model.scoring.patch_positions` takes."""
    if not options.map:
        return {"crops": options.crops or "grid", "patches": options.patches, "seed": options.seed}
    stride = options.stride or max(1, model.crop // 4)
    if stride > model.crop:
        raise Mistake(f"--stride {stride} leaves gaps between crops of {model.crop} pixels")
    return {"crops": "dense", "stride": stride}


def _map_files(folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Where the map of each image goes: its name with `.png`, and a number where that name is taken."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"{folder}: no folder for maps can be made ({error.strerror})") from None
    taken: Counter[str] = Counter()
    places = {}
    for file in files:
        taken[file.name] += 1
        number = f"-{taken[file.name]}" if taken[file.name] > 1 else ""
        places[file] = folder / f"{file.name}{number}.png"
    return places


def _write_map(model: "Predictor", image: Path, found: "PatchScores", file: Path) -> str:
    from iqa.show.analysis import quality_map

    quality_map(model.rgb(image), found, model.scale).savefig(file, dpi=150, bbox_inches="tight")
    return _text(file)


def _row(file: Path, found: "PatchScores") -> dict[str, Any]:
    values = {"score": found.score, "spread": found.spread, "patches": len(found.scores)}
    return {"image": _text(file), **values, "height": found.height, "width": found.width}


def _text(path: str | Path) -> str:
    """A path that can be written as UTF-8, also where a file name is no text."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _write(
    options: argparse.Namespace, model: "Predictor", settings: dict[str, Any], rows: list[dict], refused: list
) -> None:
    import pandas as pd

    from iqa.study import results

    if options.csv:
        columns = ["image", "score", "spread", "patches", "height", "width", *(["map"] if options.map else [])]
        results.write_text(options.csv, pd.DataFrame(rows, columns=columns).to_csv(index=False))
    if options.json:
        values = {
            "iqa": __version__,
            "model": model.name,
            "scale": vars(model.scale),
            "preparation": {"input": model.input, "size": vars(model.size), "crop": model.crop},
            "settings": settings,
            "images": rows,
            "errors": [{"image": _text(error.image), "reason": error.reason} for error in refused],
        }
        results.write_json(options.json, values)


def _print_scores(model: "Predictor", rows: list[dict[str, Any]], seconds: float) -> None:
    digits = max(0, 4 - round(math.log10(model.scale.high - model.scale.low)))
    columns = {
        "image": [row["image"] for row in rows],
        "score": [f"{row['score']:.{digits}f}" for row in rows],
        "spread": [f"{row['spread']:.{digits}f}" for row in rows],
        "patches": [str(row["patches"]) for row in rows],
    }
    print(f"{model.name}: scores from {model.scale}")
    _print_columns(columns, left=("image",))
    print(f"{len(rows)} image{'s' * (len(rows) != 1)} in {seconds:.1f} s ({len(rows) / seconds:.1f} images per second)")


def _print_columns(columns: dict[str, list[str]], left: tuple[str, ...]) -> None:
    """A table of text; the columns named in `left` are flush left, the others flush right."""
    padded = []
    for name, cells in columns.items():
        width = max(map(len, [name, *cells]))
        padded.append([cell.ljust(width) if name in left else cell.rjust(width) for cell in [name, *cells]])
    for row in zip(*padded, strict=True):
        print("  ".join(row).rstrip())


def _evaluate(options: argparse.Namespace) -> int:
    from iqa.analysis import evaluation
    from iqa.data.prepare import open_available
    from iqa.show import cross_dataset, tables
    from iqa.study import param_files, results

    _check_files(options)
    names = options.databases or param_files.run_names(options.study, "data_prep")
    if not names:
        raise Mistake(f"params/{options.study}/data_prep/ holds no database")
    opened, missing = open_available(options.study, names)
    models = {source: _load(source, options.device) for source in _model_files(options.models)}
    changes = {"crops": options.crops, "patches": options.patches, "batch_size": options.batch_size}
    scored = evaluation.score_all(models, opened, **changes, seed=options.seed)
    cross = evaluation.cross_table(scored, opened, missing, models, options.resamples, seed=options.seed)
    if options.csv:
        results.write_text(options.csv, cross.to_csv(index=False))
    if options.json:
        results.write_json(options.json, evaluation.results_json(scored, cross))
    for table in (cross_dataset.cross_database_table(cross), cross_dataset.cross_further_table(cross)):
        _print_columns(tables.rounded(table).to_dict("list"), left=("Model", "Database"))
        print()
    print("In brackets: 95% bootstrap intervals over the images' contents.")
    for name, why in missing.items():
        print(f"{name} is not available: {why['reason']}", file=sys.stderr)
    return 0


def _model_files(sources: list[str]) -> list[str]:
    """The models, a folder of model files replaced by what it holds; the results folder of a run is one model."""
    found = []
    for source in sources:
        folder = Path(source)
        inside = sorted(str(file) for file in folder.glob("*") if file.suffix in (".pt", ".pth", ".pkl"))
        found += inside if folder.is_dir() and not (folder / "best.pt").is_file() and inside else [source]
    return found


def _describe(options: argparse.Namespace) -> int:
    from iqa.model.hyperiqa import describe
    from iqa.show import tables, train

    name, network, crop = _network(options.model)
    found = describe(network, options.height or crop, options.width or crop)
    print(f"{name}: {found['name']}, {found['parameters']:,} parameters, input {found['input']} (channels, H, W)")
    _print_columns(tables.rounded(train.architecture_table(found)).to_dict("list"), left=("Part", "Detail"))
    return 0


def _network(source: str) -> tuple[str, "HyperIQA", int]:
    """Name, network and crop of a model that was trained, or that a parameter file describes."""
    if not source.endswith((".yaml", ".yml")):
        model = _load(source, "cpu")
        return model.name, model.network, model.crop
    from iqa.app import steps

    return _untrained(*steps.locate(source)[0], source)


def _untrained(study: str, step: str, run: str, source: str) -> tuple[str, "HyperIQA", int]:
    """Name, network and crop of a model as its parameters describe it."""
    from iqa.analysis import complexity
    from iqa.study import param_files
    from iqa.training.params import TrainParams

    if step != TrainParams.step:
        raise Mistake(f"{source} describes no model: it is a run of {step}, not of train")
    params = param_files.load(TrainParams, study, run)
    name = Path(source).stem if source.endswith((".yaml", ".yml")) else run
    return f"{study}/{name}, not trained", complexity.build(params), params.crop


def _complexity(options: argparse.Namespace) -> int:
    import pandas as pd

    from iqa.analysis import complexity, speed
    from iqa.analysis.params import ComplexityParams
    from iqa.show import complexity as show
    from iqa.show import tables
    from iqa.study import param_files, results

    sizes = options.batch_sizes or ([1] if options.quick else [1, 8])
    how = {"devices": ["cpu"] if options.quick else [options.device], "precisions": ["32-true"], "batch_sizes": sizes}
    how |= {"warmup": 1, "repeats": 5, "seconds": 1.0} if options.quick else {}
    counters = complexity.QUICK if options.quick else tuple(complexity.COUNTERS)
    costs, timed = [], []
    for source in options.models:
        study, _, run = source.partition("/")
        waiting = run in param_files.run_names(study, "train") and not results.finished(study, "train", run)
        name, model, crop = _untrained(study, "train", run, source) if waiting else _network(source)
        height, width = options.height or crop, options.width or crop
        about = {"run": name, "backbone": model.params.backbone, "fusion": model.params.fusion}
        try:
            counted = complexity.count(model.eval(), height, width, counters)
        except ModuleNotFoundError as error:
            raise Mistake(f"{error.name} is not installed; --quick needs neither ptflops nor thop") from None
        costs.append(about | complexity.complexity(model, height, width, counted))
        params = ComplexityParams.build({**how, "height": height, "width": width}, "iqa complexity")
        timed.append(speed.speeds(model, params).assign(run=name))
    measured = pd.concat(timed, ignore_index=True)
    left = ("Run", "Backbone", "Fusion", "Device", "Precision", "Reason", "Stopped by")
    print(f"MACs (2 FLOPs each) of one image of {' and '.join(_sizes(costs))} pixels")
    for table in (
        show.complexity_table(pd.DataFrame(costs)),
        show.latency_table(measured),
        *([] if options.quick else [show.throughput_table(measured)]),
    ):
        _print_columns(tables.rounded(table).to_dict("list"), left=left)
        print()
    print(*show.where_measured(measured), sep="\n")
    return 0


def _sizes(costs: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(f"{row['height']}x{row['width']}" for row in costs))


def _export(options: argparse.Namespace) -> int:
    from iqa.model.export import ExportError, export

    model = _load(options.model, "cpu")
    try:
        found = export(model, options.file, options.height, options.width)
    except ExportError as error:
        raise Mistake(str(error)) from None
    inputs = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in found["inputs"].items())
    print(f"{found['file']}: {model.name}, {found['bytes'] / 1e6:.1f} MB, opset {found['opset']}, input {inputs}")
    print("largest difference from PyTorch, on scores 0 to 1:")
    checks = [{**check, "difference": f"{check['difference']:.1e}"} for check in found["checks"]]
    _print_columns({key: [str(check[key]) for check in checks] for key in checks[0]}, left=())
    return 0


if __name__ == "__main__":
    sys.exit(main())
