"""A study that a test makes up, file by file, without running anything."""

import json

import pandas as pd
import tiny

from iqa.study import param_files, paths
from iqa.training.params import TrainParams

ABLATION = {"seeds": 3, "delta": -0.02, "delta_low": -0.03, "delta_high": -0.01, "delta_plcc": -0.02}
ABLATION |= {"verdict": "worse"}  # of a row, unless a test says otherwise


class Study:
    """A study that is written file by file."""

    def __init__(self, name: str):
        self.name = name

    def database(self, name: str, reader: str) -> None:
        self.params("data_prep", name, f"reader: {reader}\n")

    def train(self, experiment: str, database: str, seeds=(1, 2), history=None, **metrics) -> None:
        """Finished runs of an experiment, all with the same metrics and, if it is given, the same history."""
        self.params("train", experiment, f"database: {database}\nseeds: {list(seeds)}\n")
        base = {"database": database, "srcc": 0.9, "srcc_low": 0.89, "srcc_high": 0.91, "plcc": 0.9, "best_epoch": 5}
        for seed in seeds:
            params = param_files.load(TrainParams, self.name, f"{experiment}_s{seed}").model_dump()
            tables = {} if history is None else {"history": history}
            self.finish("train", f"{experiment}_s{seed}", metrics=base | metrics, params=params, **tables)

    def ablation(self, reference: str, *rows: dict) -> None:
        """A table of one reference run and other groups."""
        self.params("ablation", "table", f"reference: {reference}\n")
        first = ABLATION | {"group": reference, "differs": "", "runs": f"{reference}_s1", "verdict": "reference"}
        table = pd.DataFrame([first, *(ABLATION | row for row in rows)])
        self.finish("ablation", "table", ablation=table)

    def params(self, step: str, run: str, text: str) -> None:
        file = paths.PARAMS / self.name / step / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def finish(self, step: str, run: str, **contents) -> None:
        """Results of a run: tables as CSV, the others as JSON."""
        folder = paths.run_folder(self.name, step, run)
        folder.mkdir(parents=True)
        record = {"hardware": {"cpu": "A processor"}} | contents.pop("record", {})
        for name, content in contents.items():
            if isinstance(content, pd.DataFrame):
                content.to_csv(folder / f"{name}.csv", index=False)
            else:
                (folder / f"{name}.json").write_text(json.dumps(content))
        tiny.finish(folder, **record)
