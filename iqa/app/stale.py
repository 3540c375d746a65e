"""Which runs of a study are due, and why; and letting results stand that are.

A run is due if its results would come out differently now: `iqa.study.identity` holds what they were made from.
It is also due if an output is missing or is no longer the file that the run wrote.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from iqa.app import steps
from iqa.data import prepare
from iqa.data.cache import contents_hash
from iqa.data.params import DataPrepParams
from iqa.study import code, hashes, paths
from iqa.study.identity import NOT_HERE, PARTS, Identity, Reason, differences, hash_of, versions
from iqa.study.params import Params
from iqa.study.results import FIGURE_FORMATS, RECORD, TRAINING_STATE, finished, parse_record, write_record
from iqa.training import identity as training_identity
from iqa.training.params import TrainParams

Place = tuple[str, str]  # step and run
CASCADING = {"record", "parameter", "code", "data", "file", "version", "need"}  # reasons that make dependents due
NAMED = 4  # runs that a reason names
UNKNOWN = "it is not known what it was made from; make it again, or let it stand with `iqa accept`"


class AcceptError(ValueError):
    """Results that cannot be accepted; the message says why."""


class State:
    """The runs of a study as they stand now: what each is made from, which are due, and why.

    Args:
        study: its name.
        train: False leaves all trainings out.

    Raises:
        ParameterError: the study does not exist, or a parameter file is wrong.
    """

    def __init__(self, study: str, train: bool = True):
        self.study, self.train = study, train
        self.params: dict[Place, Params] = {(each.step, each.run): each for each in steps.all_params(study)}
        self._words: dict[Place, frozenset[str]] = {}
        self._data: dict[str, str] = {}
        self._records: dict[Place, dict[str, Any] | None] = {}

    @cached_property
    def absent(self) -> dict[str, str]:
        """Databases that are neither on this machine nor among the results: why, and the remedy, by name."""
        return {
            run: reason
            for (step, run), params in self.params.items()
            if step == "data_prep" and not finished(self.study, step, run)
            if (reason := prepare.absent(params)) is not None
        }

    @cached_property
    def lacking_data(self) -> dict[str, list[str]]:
        """Trainings that are not finished and whose databases are absent, with the names of these."""
        return {
            run: names
            for (step, run), params in self.params.items()
            if step == "train" and not finished(self.study, step, run)
            if (names := [name for name in params.databases() if name in self.absent])
        }

    @cached_property
    def left_out(self) -> set[Place]:
        """Runs that are not made, whether or not there are results of them.

        Databases that are absent, and what is to be trained on them; where nothing is trained, trainings, and the data
        of finished ones, which stay as they are; and what has nothing to compute without them.
        """
        left_out = {("data_prep", name) for name in self.absent} | {("train", run) for run in self.lacking_data}
        ready = {place for place in self.params if place[0] == "train"} - left_out
        if not self.train:
            left_out |= ready
            ready = {place for place in left_out if place[0] == "train" and finished(self.study, *place)}
            left_out |= {("data_prep", name) for place in ready for name in self.params[place].databases()}
        for place, params in self.params.items():
            if isinstance(params, DataPrepParams) and prepare.absent(params) is None:
                ready.add(place)
        return left_out | {place for place, params in self.params.items() if not steps.has_work(params, ready)}

    @cached_property
    def due(self) -> dict[Place, list[Reason]]:
        """The runs that are due, in the order of the steps, each with its reasons."""
        due: dict[Place, list[Reason]] = {}
        for place, params in self.params.items():
            reasons = self.reasons(params)
            if all(reason.kind == "show" for reason in reasons):  # other reasons of its own say more
                made_again = due.keys() - self.left_out
                changing = [need for need in params.needs() if need in made_again and not _opens(params, need)]
                if params.step != "report":  # which shows all that a run writes, figures too
                    changing = [need for need in changing if any(why.kind in CASCADING for why in due[need])]
                reasons += _reads(changing)
            if reasons:
                due[place] = reasons
        return due

    def reasons(self, params: Params) -> list[Reason]:
        """Why a run is due by itself; none if it is up to date."""
        place = params.step, params.run
        if not self._file(place).is_file():
            return [Reason("record", "not made yet")]
        record = self.record(place)
        if record is None:
            return [Reason("record", f"{paths.shown(self._file(place))} is damaged")]
        reasons = self._damaged_outputs(place, record)
        if params.step == "data_prep" and prepare.absent(params) is not None:
            return reasons  # results that were brought here without the images
        if record.get("identity", {}).keys() != PARTS:
            return [*reasons, Reason("record", UNKNOWN)]
        before, now = record["identity"], self.identity(params)
        differing = differences(before, now, type(params).defaults())
        if isinstance(params, TrainParams):
            differing = training_identity.explain_length(differing, before, now)
        return reasons + differing

    def out_of_date_needs(self, params: Params) -> dict[str, list[str]]:
        """Results that a run reads and that would come out differently now: why, by `<step>/<run>`."""
        found = {}
        for place in params.needs():
            reasons = [str(reason) for reason in self.due.get(place, []) if reason.kind != "show"]
            if reasons and self._file(place).is_file():
                found["/".join(place)] = reasons
        return found

    def identity(self, params: Params) -> Identity:
        """What the results of a run would be made from now."""
        starts = isinstance(params, TrainParams)  # from a model, which is among its files, and reads nothing else of it
        needs = [need for need in params.needs() if not (starts and need[0] == "train")]
        reads = {f"{step}/{run}": self._contents(params, step, run) for step, run in needs}
        if isinstance(params, DataPrepParams):
            reads |= {"images": self.data(params.run), "release": code.digest(repr(prepare.release_of(params)))}
        return {
            "values": params.deciding(),
            "code": code.notebook_code(steps.notebook(params.step), self.words(params)),
            "reads": reads,
            "files": {file: hash_of(file) for file in params.files()},
            "versions": versions(params.packages),
        }

    def words(self, params: Params) -> frozenset[str]:
        """Words in the parameters of a run and of the runs that it needs; they name losses, fusions, readers."""
        place = params.step, params.run
        if place not in self._words:
            needed = (self.params[need] for need in params.needs() if need in self.params)
            self._words[place] = params.words().union(*map(self.words, needed))
        return self._words[place]

    def record(self, place: Place) -> dict[str, Any] | None:
        """`record.json` of a run; None where there is none or it is damaged."""
        if place not in self._records:
            self._records[place] = parse_record(self._file(place))
        return self._records[place]

    def data(self, name: str) -> str:
        """Fingerprint of a database as it is now; as it was when it was prepared, where it is not on this machine."""
        if name not in self._data:
            params = self.params.get(("data_prep", name))
            here = params is not None and prepare.absent(params) is None
            recorded = (self.record(("data_prep", name)) or {}).get("data", {})
            self._data[name] = prepare.fingerprint(params) if here else recorded.get(name, NOT_HERE)
        return self._data[name]

    def _contents(self, params: Params, step: str, run: str) -> str:
        """Hash of what a run reads of another one: of a database that it opens, the data; else the results."""
        place = step, run
        if _opens(params, place):
            kinds = [params.input] if isinstance(params, TrainParams) else self.params[place].inputs
            fingerprint = self.data(run)
            return NOT_HERE if fingerprint == NOT_HERE else contents_hash(fingerprint, *kinds)
        record = self.record(place)
        if record is None:
            return "not made"
        if params.step == "report":  # it shows figures, durations and machines, too
            return code.file_hash(self._file(place))
        outputs = record["outputs"].items()
        left_out = (*FIGURE_FORMATS, *TRAINING_STATE)
        return code.digest({name: sha for name, sha in outputs if not name.endswith(left_out)})

    def _file(self, place: Place) -> Path:
        return paths.run_folder(self.study, *place) / RECORD

    @cached_property
    def _hashes(self) -> dict[str, str | None]:
        """Hash of each output of the study's runs that is there, by its path from the study's folder."""
        names = []
        for place in self.params:
            names += [_from_study(place, name) for name in (self.record(place) or {"outputs": {}})["outputs"]]
        folder = paths.RESULTS / self.study
        here = [name for name in names if (folder / name).is_file()]
        return dict.fromkeys(names) | dict(zip(here, hashes.content_hashes(folder, here), strict=True))

    def _damaged_outputs(self, place: Place, record: dict[str, Any]) -> list[Reason]:
        reasons = []
        for name, recorded in record["outputs"].items():
            here = self._hashes[_from_study(place, name)]
            if name == training_identity.LAST and not (self._file(place).parent / name).exists():
                continue  # nothing goes on from it; archives lack it
            if here != recorded:
                kind = "show" if name.endswith(FIGURE_FORMATS) else "output"
                what = "is missing" if here is None else "is not the file that the run wrote"
                reasons.append(Reason(kind, f"output {name} {what}"))
        return reasons

    def accept(self, places: Iterable[Place], because: str) -> list[Place]:
        """Let the results of runs stand that are due, and return which were.

        Their records then hold what they would be made from now; what they were made from and the reason are kept
        beside it. What is not made yet is left out, and so is a report, which shows how many runs were accepted.

        Raises:
            AcceptError: no reason is given, or results are damaged; nothing has been changed then.
        """
        if not because.strip():
            raise AcceptError("say why these results stand: --because TEXT")
        places = [place for place in places if place[0] != "report" and self._file(place).is_file()]
        due = {place: reasons for place in places if (reasons := self.reasons(self.params[place]))}
        refused = [
            f"{'/'.join(place)}: {'; '.join(map(str, reasons))}"
            for place, reasons in due.items()
            if self.record(place) is None or any(reason.text.startswith("output ") for reason in reasons)
        ]
        if refused:
            remedy = f"make these again with `iqa report {self.study}`"
            raise AcceptError("\n  ".join([f"only whole results can be accepted; {remedy}:", *refused]))
        return [place for place in places if self.stand(place, because)]

    def stand(self, place: Place, because: str) -> bool:
        """Write into a record what its results would be made from now; False if they are up to date."""
        params, record = self.params[place], self.record(place)
        reasons = self.reasons(params)  # anew: what it reads may just have been accepted
        if not reasons:
            return False
        now = self.identity(params)
        for part in ("reads", "files"):  # what this machine lacks is as it was
            before = record.get("identity", {}).get(part, {})
            now[part] |= {key: before[key] for key, value in now[part].items() if value == NOT_HERE and key in before}
        entry = {
            "because": because,
            "on": datetime.now(UTC).isoformat(timespec="seconds"),
            "differences": [str(reason) for reason in reasons],
            "before": record.get("identity"),
        }
        if isinstance(params, TrainParams):
            folder = self._file(place).parent
            data = {name: self._contents(params, "data_prep", name) for name in params.databases()}
            training_identity.accept(params, data, folder)
            sha = code.file_hash(folder / training_identity.STATE)
            record["outputs"][training_identity.STATE] = sha
            self._hashes[_from_study(place, training_identity.STATE)] = sha
        record |= {"identity": now, "accepted": [*record.get("accepted", []), entry]}
        write_record(self._file(place), record)
        return True


def _opens(params: Params, need: Place) -> bool:
    """Whether a run opens the database that it needs, whose data are known before it is prepared again."""
    return need[0] == "data_prep" and params.step in ("train", "cross_dataset", "analysis")


def _reads(made_again: list[Place]) -> list[Reason]:
    """That a run reads others which are made again."""
    names = ["/".join(place) for place in made_again[:NAMED]] + ["..."] * (len(made_again) > NAMED)
    again = "which is made again" if len(made_again) == 1 else f"which are made again ({len(made_again)})"
    return [Reason("need", f"reads {', '.join(names)}, {again}")] if made_again else []


def _from_study(place: Place, name: str) -> str:
    """The path of a run's output from its study's folder."""
    return "/".join((*place, name))


def explain(state: State, places: Iterable[Place]) -> str:
    """Which of some runs are due and why, a line a reason, for people."""
    places = list(places)
    due = [place for place in places if place in state.due]
    lines = [line for place in due for line in ("/".join(place), *(f"  {reason}" for reason in state.due[place]))]
    what = f"{len(due)} of {len(places)} runs" if due else "nothing"
    return "\n".join([*lines, f"Due in study '{state.study}': {what}."])
