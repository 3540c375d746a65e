"""Fit one training run: checkpoints, history, and what is measured after each epoch. Lightning runs the loop.

Several processes (GPUs) share a training by its `devices` and `nodes`: `iqa.training.launch` starts them.
"""

import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, distributed, nn

from iqa.data.crops import center, whole
from iqa.data.database import Database
from iqa.metrics import coefficients
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import choose_device, score
from iqa.study.identity import Identity, Reason
from iqa.study.progress import in_batch
from iqa.study.results import write_json, write_text
from iqa.training import identity, losses, schedules
from iqa.training.batches import Batch, train_loader
from iqa.training.launch import launch
from iqa.training.params import TrainParams

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
for message in ("does not have many workers", "Checkpoint directory .* exists", "treespec, LeafSpec", "`srun` command"):
    warnings.filterwarnings("ignore", message=f".*{message}")

NAMED = 8  # images that an error message names at most
AfterEpoch = Callable[[pd.DataFrame], None]


class Fit(lightning.LightningModule):
    """What Lightning needs to know: the loss of a batch, the optimiser, and what is measured after an epoch.

    Args:
        monitored: further databases whose test splits are scored after each epoch, by name.
        after_epoch: is given the history after each epoch.
    """

    def __init__(
        self,
        model: HyperIQA,
        database: Database,
        params: TrainParams,
        folder: Path,
        monitored: dict[str, Database],
        after_epoch: AfterEpoch | None = None,
    ):
        super().__init__()
        self.model = model
        self.database = database
        self.params = params
        self.folder = folder
        self.monitored = monitored
        self.after_epoch = after_epoch
        self.history: list[dict[str, float]] = []
        self.seen: list[Tensor] = []  # predictions and targets (2, B) of each batch
        self.terms: list[dict[str, Tensor]] = []  # loss terms of each batch
        # a function, not a module: what is saved keeps the names of the model's own tensors
        self.predicted = torch.compile(model.forward) if params.compile else model.forward
        if params.freeze_backbone:
            model.backbone.requires_grad_(False)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = schedules.optimizer(self.model, self.params)
        schedule = schedules.scheduler(optimizer, self.params, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        self.started = time.perf_counter()
        self.seen.clear()
        self.terms.clear()
        self.model.train()
        if self.params.freeze_backbone:
            self.model.backbone.eval()
        if self.params.freeze_batch_norm:
            for module in self.model.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        # the random state (dropout) follows from seed, epoch and batch, so a resumed run equals an unbroken one
        torch.manual_seed(hash((self.params.seed, self.current_epoch, index, self.global_rank)))
        pixels, target, images = batch
        if not self.params.channels_last:
            pixels = pixels.contiguous()
        prediction = self.predicted(pixels).float()
        if self.trainer.world_size > 1:  # losses of pairs need the whole batch
            prediction = self.all_gather(prediction, sync_grads=True).flatten()
            target, images = self.all_gather(target).flatten(), self.all_gather(images).flatten()
        terms = losses.total(prediction, target, self.params.terms(), vars(self.params))
        if not torch.isfinite(terms["total"]):
            raise FloatingPointError(self._broken(terms, prediction, images, index))
        self.seen.append(torch.stack([prediction.detach(), target]))
        self.terms.append({name: value.detach() for name, value in terms.items()})
        self.log("loss", terms["total"].detach(), prog_bar=True)
        return terms["total"]

    def _broken(self, terms: dict[str, Tensor], prediction: Tensor, images: Tensor, index: int) -> str:
        """Where the loss stopped being a number: epoch, batch, terms and images."""
        values = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
        broken = ~torch.isfinite(prediction)
        guilty = images[broken] if broken.any() else images
        names = self.database.table["image"].iloc[guilty.cpu().numpy()].tolist()
        listed = ", ".join(map(str, names[:NAMED])) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        which = "predictions of these are no numbers" if broken.any() else "its images"
        return (
            f"the loss is no finite number in epoch {self.current_epoch + 1}, batch {index + 1} ({values}); {which}: "
            f"{listed}. A lower `lr`, `clip: 1.0` or `precision: 32-true` may help"
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # after `hypernet_epochs` what generates the rules learns no more; the backbone and the LDA modules go on
        if self.params.hypernet_epochs and self.current_epoch >= self.params.hypernet_epochs:
            for part in (self.model.fusion, self.model.semantic, self.model.hyper):
                for parameter in part.parameters():
                    parameter.grad = None

    def on_train_epoch_end(self) -> None:
        prediction, target = torch.cat(self.seen, dim=1).cpu().numpy()
        sizes = np.array([batch.shape[1] for batch in self.seen])
        values = {name: [float(terms[name]) for terms in self.terms] for name in self.terms[0]}
        means = {f"train_{name}": float(np.average(of_batches, weights=sizes)) for name, of_batches in values.items()}
        row = {
            "epoch": self.current_epoch + 1,
            "train_loss": means.pop("train_total"),
            **means,
            **schedules.rates(self.trainer.optimizers[0]),
            "train_srcc": coefficients.srcc(prediction, target),
            "train_plcc": coefficients.plcc(prediction, target),
            **self._validate(),
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        self.history.append(row)
        self.log_dict({key: row[key] for key in {"val_loss", "val_srcc", self.params.select_on}}, prog_bar=True)
        if self.trainer.is_global_zero:
            self._write(row)
            if self.after_epoch:
                self.after_epoch(pd.DataFrame(self.history))

    def _validate(self) -> dict[str, float]:
        """Loss, SRCC and PLCC on the validation split; SRCC and PLCC on what else is looked at."""
        is_whole = self.params.test_crops == whole.name
        value, truth = self._scored(self.database, "val", crops=(whole if is_whole else center).name, patches=1)
        found = {"val_loss": float(np.abs(value - truth).mean()), **_agreement("val", value, truth)}
        others = {"test": self.database} if self.params.selects_on_test else {}
        for name, database in (others | self.monitored).items():
            as_tested = {"crops": self.params.test_crops, "patches": self.params.test_patches}
            found |= _agreement(name, *self._scored(database, "test", **as_tested))
        return found

    def _scored(self, database: Database, split: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true scores of a split on 0..1; several processes share the images."""
        params, indices = self.params, database.indices(split)
        rank, processes = self.global_rank, self.trainer.world_size
        options |= {"input": params.input, "crop": params.crop, "precision": params.precision}
        own = score(self.model, database, indices[rank::processes], batch_size=params.batch_size, **options)
        value = np.zeros(len(indices))
        for place, part in enumerate(_of_all(own, processes)):
            value[place::processes] = part
        return value, database.normalise(database.table["mos"].to_numpy()[indices])

    def _write(self, row: dict[str, float]) -> None:
        """History, log and models of the epoch that ended."""
        _write_history(self.folder, self.history)
        if best_epoch(self.history, self.params.select_on) == row["epoch"]:
            self._save("best.pt", row)
        if self.params.save_all_epochs:
            (self.folder / "epochs").mkdir(exist_ok=True)
            self._save(f"epochs/epoch_{row['epoch']:03}.pt", row)
        terms = "".join(f"  {term} {row[f'train_{term}']:.4f}" for term in self.params.terms())
        others = "".join(f"  {key} {row[key]:.3f}" for key in row if key.endswith("srcc") and key != "train_srcc")
        log(
            self.folder,
            f"epoch {row['epoch']:>3}/{self.params.epochs}  loss {row['train_loss']:.4f}{terms}"
            f"  lr {row['lr_backbone']:.1e} {row['lr_heads']:.1e}  train_srcc {row['train_srcc']:.3f}{others}"
            f"  {row['seconds']:.1f} s",
        )

    def _save(self, name: str, row: dict[str, float]) -> None:
        """Write weights, and what a predictor has to know besides (`iqa.model.predictor.load_model`)."""
        database = self.database
        scale = {
            key: getattr(database, key) for key in ("name", "title", "low", "high", "higher_is_better", "synthetic")
        }
        scale["size"] = vars(database.size)
        saved = _about(self.params) | {"database": scale, "history_row": row, "state_dict": self.model.state_dict()}
        _save(saved, self.folder / name)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]


def _agreement(name: str, value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {f"{name}_srcc": coefficients.srcc(value, truth), f"{name}_plcc": coefficients.plcc(value, truth)}


def _of_all(own: np.ndarray, processes: int) -> list[np.ndarray]:
    """An array of each process, in their order."""
    found: list[Any] = [own] * processes
    if processes > 1:
        distributed.all_gather_object(found, own)
    return found


def log(folder: Path, text: str) -> None:
    """A line of `train.log`, with the time; printed as well where no live bar shows it."""
    with (folder / "train.log").open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {text}\n")
    if in_batch():
        print(text, flush=True)


def best_epoch(history: list[dict[str, float]] | pd.DataFrame, select_on: str) -> int:
    """The epoch (from 1) whose `select_on` is best: the lowest loss or the highest coefficient, the first of equals."""
    values = pd.DataFrame(history)
    column = values[select_on]
    return int(values["epoch"].iloc[column.argmin() if select_on.endswith("loss") else column.argmax()])


def _about(params: TrainParams) -> dict[str, Any]:
    """What a model file says of its model in plain values, enough to score images with it."""
    about = {"name": f"{params.study}/{params.run}", "architecture": params.architecture().model_dump()}
    return about | {"scoring": params.scoring(), "params": params.model_dump()}


def _update_params(folder: Path, params: TrainParams, now: Identity, history: list[dict[str, float]]) -> None:
    """Write the parameters of now into a model that is taken as it is; those that decide nothing may differ."""
    saved = torch.load(folder / identity.MODEL, map_location="cpu", weights_only=True)
    if saved["params"] != params.model_dump():
        _save(saved | _about(params), folder / identity.MODEL)
        identity.finish(folder, now, history)


def _save(saved: dict[str, Any], file: Path) -> None:
    """Write a whole model file or nothing."""
    part = file.with_name(f".{file.name}.part")
    torch.save(saved, part)
    part.replace(file)


def fit(
    params: TrainParams,
    database: Database,
    folder: Path,
    monitored: dict[str, Database] | None = None,
    after_epoch: AfterEpoch | None = None,
) -> pd.DataFrame:
    """Train, and return the history, one row per epoch.

    `folder` receives `history.csv`, `train.log`, `best.pt` (the model of the best epoch), `last.ckpt` (to go on after
    the last epoch) and, with `save_all_epochs`, `epochs/epoch_NNN.pt`. A fit that was stopped goes on after its last
    epoch, and one that is finished is not repeated, as long as parameters, data, code and versions are the same
    (`iqa.training.identity`); anything else starts anew, and the log says why.

    Args:
        monitored: databases whose test splits are scored after each epoch, by name (`monitor_databases`).
        after_epoch: called with the history after each epoch, in place of a progress bar (of one process); an error
            that it raises ends the fit, which can go on later.

    Raises:
        ValueError: the database has no images to train on, to validate with, or to select on.
        FloatingPointError: the loss is not a finite number.
        RuntimeError: one of several processes failed.
    """
    monitored = monitored or {}
    _check_splits(params, database, monitored)
    data = {each.name: each.identity(params.input) for each in (database, *monitored.values())}
    now, state = identity.fit_identity(params, data), identity.read_state(folder)
    launched = distributed.is_torchelastic_launched()
    reasons = identity.compare(state, now, folder)
    if "history" in state and not reasons:
        print(f"these parameters were already trained here: {len(state['history'])} epochs are taken as they are")
        _update_params(folder, params, now, state["history"])
        return _write_history(folder, state["history"])
    resume = not reasons and all((folder / name).is_file() for name in ("last.ckpt", identity.MODEL))
    if not launched:
        _begin(params, database, folder, now, resume, reasons if state else [])
    if params.processes() > 1 and not launched:
        launch(params, folder, log)
        return pd.DataFrame(identity.read_state(folder)["history"])
    history = _train(params, database, folder, monitored, resume, after_epoch)
    if not launched or distributed.get_rank() == 0:
        identity.finish(folder, now, history)
    return pd.DataFrame(history)


def _write_history(folder: Path, history: list[dict[str, float]]) -> pd.DataFrame:
    table = pd.DataFrame(history)
    write_text(folder / "history.csv", table.to_csv(index=False))
    return table


def _check_splits(params: TrainParams, database: Database, monitored: dict[str, Database]) -> None:
    selected = ["test"] if params.selects_on_test else []
    needed = [(database, split) for split in ("train", "val", *selected)]
    for each, split in [*needed, *((other, "test") for other in monitored.values())]:
        if not len(each.indices(split)):
            remedy = "; see `val_fraction`" if split == "val" else ""
            raise ValueError(f"database '{each.name}' has no images in split '{split}'{remedy}")


def _begin(
    params: TrainParams, database: Database, folder: Path, now: Identity, resume: bool, reasons: list[Reason]
) -> None:
    """Say what is done and why, and remove what another fit left."""
    if resume:
        log(folder, "going on from last.ckpt")
        return
    for name in ("last.ckpt", "best.pt", "train.log", "history.csv"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "epochs", ignore_errors=True)
    write_json(folder / identity.STATE, {"identity": now})
    for reason in reasons:
        log(folder, f"training anew: {reason}")
    counts = ", ".join(f"{len(database.indices(split)):,} in {split}" for split in ("train", "val"))
    log(
        folder, f"{params.run}: {params.backbone}, {params.fusion}, on '{database.name}' ({counts}), seed {params.seed}"
    )


def _train(
    params: TrainParams,
    database: Database,
    folder: Path,
    monitored: dict[str, Database],
    resume: bool,
    after_epoch: AfterEpoch | None,
) -> list[dict[str, float]]:
    """The loop, from the beginning or after the last epoch; in each process, where there are several."""
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    torch.utils.deterministic.fill_uninitialized_memory = False
    model = HyperIQA(params.architecture(), params.pretrained, params.weights)
    if params.channels_last:
        model.to(memory_format=torch.channels_last)
    module = Fit(model, database, params, folder, monitored, after_epoch)
    callbacks: list[Callback] = [
        ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    ]
    if params.patience:
        mode = "min" if params.select_on.endswith("loss") else "max"
        callbacks.append(EarlyStopping(params.select_on, patience=params.patience, mode=mode))
    device = choose_device(params.device)
    one = [device.index or 0] if device.type == "cuda" else 1
    several = params.processes() > 1
    trainer = lightning.Trainer(
        accelerator=device.type,
        devices=params.devices if several else one,
        num_nodes=params.nodes,
        strategy=params.strategy if several else "auto",
        sync_batchnorm=several and device.type == "cuda",
        precision=params.precision,
        deterministic="warn" if params.deterministic else False,
        max_epochs=params.epochs,
        accumulate_grad_batches=params.accumulate,
        gradient_clip_val=params.clip or None,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=not in_batch() and after_epoch is None,
        enable_model_summary=False,
    )
    share = (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if several else (0, 1)
    loader = train_loader(database, params, share)
    trainer.fit(module, loader, ckpt_path=folder / "last.ckpt" if resume else None)
    return module.history
