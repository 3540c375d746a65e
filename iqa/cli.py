"""The `iqa` command."""

import argparse
import sys
from typing import Any

from iqa import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="iqa", description="Reproducible study of HyperIQA and its successors.")
    parser.add_argument("--version", action="version", version=f"iqa {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="execute the notebook of a parameter file")
    run.add_argument("files", nargs="+", metavar="FILE", help="params/<study>/<step>/<run>.yaml")
    run.add_argument("-p", dest="overrides", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))

    report = commands.add_parser("report", help="bring a study up to date and render its report")
    report.add_argument("study", nargs="?", default="demo")
    report.add_argument("--jobs", type=int, metavar="N", help="cores that the runs share (default: all)")
    report.add_argument("--dry-run", action="store_true", help="say what would run, and why")

    options = parser.parse_args(arguments)
    from iqa import pipeline
    from iqa.config import ParameterError
    from iqa.data import DataError
    from iqa.paths import PathError

    try:
        if options.command == "run":
            for file in options.files:
                pipeline.run(file, {key: _value(text) for key, text in options.overrides})
        else:
            pipeline.report(options.study, options.jobs, ["--dry-run"] if options.dry_run else None)
    except (ParameterError, DataError, PathError, pipeline.RunFailed) as error:
        print(f"iqa: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _value(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


if __name__ == "__main__":
    sys.exit(main())
