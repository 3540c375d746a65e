"""Fit a model: the loop by Lightning, what is measured after each epoch, and the files that it leaves.

`iqa.training.train.train` decides whether a run has to be fitted at all. Several processes (GPUs) may share a fit.
"""

import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from timm.utils import ModelEmaV3
from torch import Tensor, distributed, nn

from iqa.data.database import Database
from iqa.metrics import coefficients
from iqa.model.hyperiqa import HyperIQA
from iqa.model.scoring import choose_device, score
from iqa.study import progress
from iqa.study.disk import write_whole
from iqa.study.echo import listed
from iqa.study.progress import in_batch
from iqa.training import losses, schedules
from iqa.training.batches import Batch, EpochOrder, join, parts, train_loader
from iqa.training.params import TrainParams

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
SILENCED = ("does not have many workers", "Checkpoint directory .* exists", "dirpath has changed", "treespec, LeafSpec")
GOING_ON = ("resuming from a checkpoint that ended before", "in eval mode at the start")  # `Fit` sees to both
for message in (*SILENCED, *GOING_ON, "`srun` command"):
    warnings.filterwarnings("ignore", message=f".*{message}")

UNCALIBRATED = "the loss does not see the scale, and the scores of the validation images do not rise with their MOS"
NAMED = 8  # images that an error message names at most
CHECKED = 100  # batches between two looks at the losses on a GPU, which would have to be waited for at each
REMEDY = "A lower `lr`, `clip: 1.0` or `precision: 32-true` may help"
SAVE_EVERY = 600.0  # seconds of an epoch after which its state is saved
AfterEpoch = Callable[[pd.DataFrame], None]


class Fit(lightning.LightningModule):
    """What Lightning needs to know: the loss of a batch, the optimiser, and what is measured after an epoch.

    Args:
        database: to train on, or several, the first of which gives the model its scale.
        monitored: further databases whose test splits are scored after each epoch, by name.
        after_epoch: called with the history after each epoch.
        mark: what its files are told by from those of other fits.
    """

    def __init__(
        self,
        model: HyperIQA,
        databases: list[Database],
        params: TrainParams,
        folder: Path,
        monitored: dict[str, Database],
        after_epoch: AfterEpoch | None = None,
        mark: str = "",
    ):
        super().__init__()
        self.model = model
        self.databases = databases
        self.joined = join(databases)
        part = torch.zeros(len(self.joined), dtype=torch.long)  # the number of each image's database
        for number, rows in enumerate(parts(self.joined)):
            part[rows] = number
        self.register_buffer("part", part, persistent=False)  # where the batches are, not in what is saved
        self.params = params
        self.sees_scale = losses.sees_scale(params.terms())
        self.line = 0.0, 1.0  # intercept and slope that map scores to 0..1; fitted anew after each epoch if it must be
        self.folder = folder
        self.monitored = monitored
        self.after_epoch = after_epoch
        self.mark = mark
        self.history: list[dict[str, float]] = []
        self.seen: list[Tensor] = []  # predictions, targets and numbers of the databases (3, B) of each batch
        self.images: list[Tensor] = []  # rows of `joined` (B,) of each batch
        self.terms: list[dict[str, Tensor]] = []  # loss terms of each batch
        # a function, not a module: what is saved keeps the names of the model's own tensors
        self.predict = torch.compile(model.forward) if params.compile else model.forward
        if params.freeze_backbone:
            model.backbone.requires_grad_(False)
        self.average = ModelEmaV3(model, params.ema, use_warmup=True).requires_grad_(False) if params.ema else None
        self.steps = 0  # of the optimiser
        self.order: EpochOrder  # of the patches
        self.bar: progress.tqdm

    @property
    def scored(self) -> HyperIQA:
        """The model that is validated and saved: the average of the weights, if there is one."""
        return self.average.module if self.average else self.model

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = schedules.optimizer(self.model, self.params)
        schedule = schedules.scheduler(optimizer, self.params, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self.steps = self.trainer.global_step
        done = min(self.order.done * self.params.batch_size, len(self.order.items))
        self.bar.n = self.bar.initial = len(self.history) * len(self.order.items) + done
        if done:
            log(self.folder, f"epoch {len(self.history) + 1}: {done:,} of {len(self.order.items):,} patches are done")
            self._prepare_epoch()

    def on_train_epoch_start(self) -> None:
        self.started = time.perf_counter()
        self.rates = schedules.rates(self.trainer.optimizers[0])  # of the epoch's first step; they change with each
        if self.params.reset_optimizer:
            self.trainer.optimizers[0].state.clear()
        self._prepare_epoch()

    def _prepare_epoch(self) -> None:
        """What the rest of an epoch needs, too, where a stopped fit goes on within it."""
        self.saved = time.monotonic()
        self.bar.set_description_str(f"epoch {self.current_epoch + 1}/{self.params.epochs}", refresh=False)
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
        prediction = self.predict(pixels).float()
        if self.trainer.world_size > 1:  # losses of pairs need the whole batch
            prediction = self.all_gather(prediction, sync_grads=True).flatten()
            target, images = self.all_gather(target).flatten(), self.all_gather(images).flatten()
        part = self.part[images]
        terms = self._losses(prediction, target, part)
        self.seen.append(torch.stack([prediction.detach(), target, part.to(target.dtype)]))
        self.images.append(images)
        self.terms.append({name: value.detach() for name, value in terms.items()})
        if images.device.type == "cpu" or len(self.terms) % CHECKED == 0:
            self._check_finite()
        return terms["total"]

    def _losses(self, prediction: Tensor, target: Tensor, part: Tensor) -> dict[str, Tensor]:
        """The terms of the loss and their sum: means over the databases in a batch, weighted by their images.

        No term compares an image with one of another database. Of several databases each has its own sum, too.
        """
        options = self.params.terms(), vars(self.params)
        if len(self.databases) == 1:
            return losses.total(prediction, target, *options)
        counts = torch.bincount(part, minlength=len(self.databases))
        found = {
            number: losses.total(prediction[part == number], target[part == number], *options)
            for number in counts.nonzero().flatten().tolist()
        }
        shares = counts / len(part)
        names = next(iter(found.values()))
        means = {name: torch.stack([shares[n] * terms[name] for n, terms in found.items()]).sum() for name in names}
        absent = torch.zeros_like(means["total"])
        own = {data.name: found[n]["total"] if n in found else absent for n, data in enumerate(self.databases)}
        return means | own

    def _check_finite(self) -> None:
        """Look for losses that are not finite among the batches so far; a GPU has to be waited for.

        Raises:
            FloatingPointError: with the epoch, the first such batch, its terms and images.
        """
        finite = torch.isfinite(torch.stack([terms["total"] for terms in self.terms]))
        if finite.all():
            return
        index = int((~finite).nonzero()[0])
        values = ", ".join(f"{name} {value.item():g}" for name, value in self.terms[index].items())
        broken, images = ~torch.isfinite(self.seen[index][0]), self.images[index]
        which = "predictions are not finite for" if broken.any() else "its images are"
        rows = (images[broken] if broken.any() else images).cpu().numpy()
        where = f"epoch {self.current_epoch + 1}, batch {index + 1} ({values})"
        names = listed(self.joined.table["image"].iloc[rows], NAMED)
        raise FloatingPointError(f"the loss is not finite in {where}; {which}: {names}. {REMEDY}")

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *limit: Any, **named: Any) -> None:
        # by torch itself: Lightning refuses to clip for a fused optimiser, also where no gradient is scaled (bf16)
        if self.params.clip:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.params.clip)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # after `hypernet_epochs` what generates the target network is fixed; the backbone and the LDA modules go on
        if self.params.hypernet_epochs and self.current_epoch >= self.params.hypernet_epochs:
            for name, parameter in self.model.named_parameters():
                if name.startswith(("fusion.", "semantic.", "hyper.")):
                    parameter.grad = None

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        done = min((index + 1) * self.params.batch_size, len(self.order.items))
        self.bar.update(len(self.history) * len(self.order.items) + done - self.bar.n)
        if self.trainer.global_step == self.steps:  # gradients are collected (`accumulate`)
            return
        self.steps = self.trainer.global_step
        if self.average:
            self.average.update(self.model, self.steps)
        due = time.monotonic() - self.saved >= SAVE_EVERY and not self.trainer.is_last_batch
        if self.trainer.strategy.reduce_boolean_decision(due, all=False):
            self._check_finite()
            self.trainer.save_checkpoint(self.folder / "last.ckpt")
            self.saved = time.monotonic()

    def on_train_epoch_end(self) -> None:
        self._check_finite()
        prediction, target, part = torch.cat(self.seen, dim=1).cpu().numpy()
        sizes = {name: [batch.shape[1] for batch in self.seen] for name in self.terms[0]}
        for number, data in enumerate(self.databases):
            if data.name in sizes:
                sizes[data.name] = [int((batch[2] == number).sum()) for batch in self.seen]
        values = {name: [float(terms[name]) for terms in self.terms] for name in self.terms[0]}
        means = {name: float(np.average(of_batches, weights=sizes[name])) for name, of_batches in values.items()}
        trained = {
            data.name: _agreement("train", prediction[part == number], target[part == number])
            for number, data in enumerate(self.databases)
        }
        row = {
            "epoch": self.current_epoch + 1,
            "train_loss": means.pop("total"),
            **{f"train_loss_{name}": mean for name, mean in means.items()},
            **self.rates,
            **_mean(trained),
            **self._validate(),
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        self.history.append(row)
        for of_batches in (self.seen, self.images, self.terms):
            of_batches.clear()
        self.log(self.params.select_on, row[self.params.select_on])  # for `patience`
        if self.trainer.is_global_zero:
            self._write(row)
            if self.after_epoch:
                self.after_epoch(pd.DataFrame(self.history))

    def _validate(self) -> dict[str, float]:
        """Loss, SRCC and PLCC on the validation split; SRCC and PLCC on the test splits that are watched.

        Of several databases their means, then those of each. A line that maps scores to the scale is the first one's.
        """
        rows: dict[str, dict[str, float]] = {}
        for data in self.databases:
            value, truth = self._score(data, "val", self.params.validation())
            if not self.sees_scale and not rows:
                self.line = fit_line(value, truth)
            intercept, slope = self.line
            error = np.abs(intercept + slope * value - truth)
            rows[data.name] = {"val_loss": float(error.mean()), **_agreement("val", value, truth)}
        row = _mean(rows)
        if len(rows) > 1:
            row |= {f"{key}_{name}": value for name, of_one in rows.items() for key, value in of_one.items()}
        tested = self.databases if self.params.selects_on_test else []
        if tested:
            row |= _mean({data.name: self._tested("test", data) for data in tested})
        for name, database in self.monitored.items():
            row |= self._tested(name, database)
        return row

    def _tested(self, name: str, database: Database) -> dict[str, float]:
        return _agreement(name, *self._score(database, "test", self.params.scoring()))

    def _score(self, database: Database, split: str, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true scores of a split on 0..1; several processes share the images."""
        indices = database.indices(split)
        rank, processes = self.global_rank, self.trainer.world_size
        label = f"scoring '{database.name}' ({split})" if in_batch() and rank == 0 else ""
        parts: list[Any] = [score(self.scored, database, indices[rank::processes], label=label, **options)] * processes
        if processes > 1:
            distributed.all_gather_object(parts, parts[rank])
        value = np.zeros(len(indices))
        for place, part in enumerate(parts):
            value[place::processes] = part
        if not (finite := np.isfinite(value)).all():
            where = f"epoch {self.current_epoch + 1} for {np.sum(~finite)} images of '{database.name}' ({split})"
            names = listed(database.table["image"].iloc[indices[~finite]], NAMED)
            raise FloatingPointError(f"scores are not finite after {where}: {names}. {REMEDY}")
        return value, database.normalise(database.table["mos"].to_numpy()[indices])

    def _write(self, row: dict[str, float]) -> None:
        """History, log and models of the epoch that ended."""
        write_history(self.folder, self.history)
        saved = describe(self.params, *self.databases) | {"fit": self.mark, "history_row": row}
        intercept, slope = self.line
        saved["calibration"] = {"intercept": intercept, "slope": slope} if slope else {"uncalibrated": UNCALIBRATED}
        saved["state_dict"] = self.scored.state_dict()
        if best_epoch(self.history, self.params.select_on) == row["epoch"]:
            save(saved, self.folder / "best.pt")
        if self.params.save_all_epochs:
            (self.folder / "epochs").mkdir(exist_ok=True)
            save(saved, self.folder / "epochs" / f"epoch_{row['epoch']:03}.pt")
        names = [*self.params.terms(), *(data.name for data in self.databases[1:] and self.databases)]
        terms = "".join(f"  {term} {row[f'train_loss_{term}']:.4f}" for term in names)
        others = "".join(f"  {key} {row[key]:.3f}" for key in row if key.endswith("srcc") and key != "train_srcc")
        log(
            self.folder,
            f"epoch {row['epoch']:>3}/{self.params.epochs}  loss {row['train_loss']:.4f}{terms}"
            f"  lr {row['lr_backbone']:.1e} {row['lr_heads']:.1e}  train_srcc {row['train_srcc']:.3f}{others}"
            f"  {row['seconds']:.1f} s",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"fit": self.mark, "history": self.history}
        if self.seen:  # within an epoch; seed, epoch and number of the batch decide what is random
            sizes = [batch.shape[1] for batch in self.seen]
            terms = {name: torch.stack([batch[name] for batch in self.terms]) for name in self.terms[0]}
            so_far = {"sizes": sizes, "seen": torch.cat(self.seen, dim=1), "images": torch.cat(self.images)}
            so_far |= {"terms": terms, "rates": self.rates, "seconds": time.perf_counter() - self.started}
            checkpoint["epoch_so_far"] = so_far

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]
        self.order.set_epoch(len(self.history))
        if so_far := checkpoint.get("epoch_so_far"):
            device, sizes = self.trainer.strategy.root_device, so_far["sizes"]
            self.order.done = len(sizes)
            self.seen = list(so_far["seen"].to(device).split(sizes, dim=1))
            self.images = list(so_far["images"].to(device).split(sizes))
            terms = {name: values.to(device) for name, values in so_far["terms"].items()}
            self.terms = [{name: terms[name][place] for name in terms} for place in range(self.order.done)]
            self.rates, self.started = so_far["rates"], time.perf_counter() - so_far["seconds"]


def _agreement(name: str, value: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {f"{name}_srcc": coefficients.srcc(value, truth), f"{name}_plcc": coefficients.plcc(value, truth)}


def _mean(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over databases."""
    first = next(iter(rows.values()))
    return {key: float(np.mean([row[key] for row in rows.values()])) for key in first} if len(rows) > 1 else first


def fit_line(value: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Intercept and slope (>= 0) of the line through (value, truth) with least squares; slope 0 where none rises."""
    centred = value - value.mean()
    spread = float(centred @ centred)
    slope = max(0.0, float(centred @ (truth - truth.mean())) / spread) if np.ptp(value) > 0 else 0.0
    return float(truth.mean() - slope * value.mean()), slope


def log(folder: Path, text: str) -> None:
    """Append a line with the time to `train.log`; print it too where no live bar shows it."""
    with (folder / "train.log").open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')}  {text}\n")
    if in_batch():
        print(text, flush=True)


def best_epoch(history: list[dict[str, float]] | pd.DataFrame, select_on: str) -> int:
    """The epoch (from 1) whose `select_on` is best: the lowest loss or the highest coefficient, the first of equals."""
    values = pd.DataFrame(history)
    column = values[select_on]
    return int(values["epoch"].iloc[column.argmin() if select_on.endswith("loss") else column.argmax()])


def describe(params: TrainParams, *databases: Database) -> dict[str, Any]:
    """What a model file says besides weights, in plain values: all that `iqa.model.predictor.load_model` needs."""
    about = {"name": f"{params.study}/{params.run}", "architecture": params.architecture().model_dump()}
    about |= {"scoring": params.scoring(), "params": params.model_dump()}
    for database in databases[:1]:
        keys = ("name", "title", "low", "high", "higher_is_better", "synthetic")
        about["database"] = {key: getattr(database, key) for key in keys} | {"size": vars(database.size)}
    if len(databases) > 1:
        about["trained_on"] = " and ".join(database.title for database in databases)
    return about


def save(content: dict[str, Any], file: Path) -> None:
    """Write a whole model file or nothing; it outlives a power failure."""
    write_whole(file, partial(torch.save, content), durable=True)


class Checkpoints(TorchCheckpointIO):
    """How Lightning writes `last.ckpt`: the one before can be loaded until the next is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        save(checkpoint, Path(path))


def write_history(folder: Path, history: list[dict[str, float]]) -> pd.DataFrame:
    """Write `history.csv`, and return it."""
    table = pd.DataFrame(history)
    write_whole(folder / "history.csv", table.to_csv(index=False))
    return table


def fit(
    params: TrainParams,
    database: Database,
    folder: Path,
    monitored: dict[str, Database],
    after_epoch: AfterEpoch | None = None,
    mark: str = "",
    resume: bool = False,
    start: dict[str, Tensor] | None = None,
    others: Sequence[Database] = (),
    bar: Callable[..., progress.tqdm] = progress.bar,
) -> list[dict[str, float]]:
    """Fit from the beginning, or from the state in `folder`; return the history, one row per epoch.

    A row holds the training loss (`train_loss`) and its terms (`train_loss_<term>`), the learning rates of the epoch's
    first step (`lr_backbone`, `lr_heads`), `<split or database>_srcc` and `_plcc`, the mean absolute error on the
    validation images (`val_loss`), and `seconds`. Of several databases these are means, and `train_loss_<database>`,
    `val_loss_<database>`, `val_srcc_<database>` and `val_plcc_<database>` those of each.

    Of several processes each calls this. Arguments, files and errors are those of `iqa.training.train.train`; `mark`
    is that of `iqa.training.identity.mark`, `start` holds the weights to begin with, if not those of the seed,
    `others` are the further databases to train on, and `bar` makes what shows the progress.
    """
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    torch.utils.deterministic.fill_uninitialized_memory = False
    model = HyperIQA(params.architecture(), params.pretrained, params.weights)
    if start is not None:
        model.load_state_dict(start)
    if params.channels_last:
        model.to(memory_format=torch.channels_last)
    module = Fit(model, [database, *others], params, folder, monitored, after_epoch, mark)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks: list[Callback] = [last]
    if params.patience:
        mode = "min" if params.select_on.endswith("loss") else "max"
        callbacks.append(EarlyStopping(params.select_on, patience=params.patience, mode=mode))
    device = choose_device(params.device)
    if params.precision == "fp16-mixed" and device.type == "cpu":
        raise ValueError("precision 'fp16-mixed' needs a GPU; set 'bf16-mixed' or '32-true'")
    one = [device.index or 0] if device.type == "cuda" else 1
    several = params.processes() > 1
    trainer = lightning.Trainer(
        accelerator=device.type,
        devices=params.devices if several else one,
        num_nodes=params.nodes,
        strategy=params.strategy if several else "auto",
        sync_batchnorm=several and device.type == "cuda",
        precision=params.precision.replace("fp16", "16"),
        deterministic="warn" if params.deterministic else False,
        max_epochs=params.epochs,
        accumulate_grad_batches=params.accumulate,
        use_distributed_sampler=False,
        callbacks=callbacks,
        plugins=[Checkpoints()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    share = (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if several else (0, 1)
    loader = train_loader(module.joined, params, share)
    module.order = loader.sampler
    shown = {"desc": "epoch", "unit": "patch", "epochs": params.epochs, "disable": share[0] > 0}
    total = params.epochs * len(module.order.items)
    try:
        with bar(total=total, tell=partial(log, folder), **shown) as module.bar:
            trainer.fit(module, loader, ckpt_path=folder / "last.ckpt" if resume else None)
    except torch.OutOfMemoryError as error:
        smaller = f"`batch_size: {max(1, params.batch_size // 2)}` with `accumulate: {2 * params.accumulate}`"
        raise MemoryError(
            f"the memory of {device.type} ended in epoch {module.current_epoch + 1}; the epochs before are kept. "
            f"Set {smaller}, or `precision: bf16-mixed`: {str(error).splitlines()[0][:200]}"
        ) from error
    return module.history
