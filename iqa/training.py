"""Fit one training run: patches, optimiser, schedule, checkpoints, history. Lightning runs the loop."""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, OneCycleLR
from torch.utils.data import DataLoader, Dataset, Sampler

from iqa import losses, metrics, paths, source
from iqa.config import TrainParams
from iqa.data.crops import crop_positions
from iqa.data.databases import Database
from iqa.inference import choose_device, score, to_pixels
from iqa.model import HyperIQA
from iqa.progress import in_batch

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
for message in ("does not have many workers", "Checkpoint directory .* exists", "treespec, LeafSpec"):
    warnings.filterwarnings("ignore", message=f".*{message}")

Item = tuple[int, int, int]  # epoch, image, patch


class Patches(Dataset):
    """Training patches, fetched by the batch: pixels (B, 3, crop, crop) uint8 and targets (B,) on 0..1."""

    def __init__(self, database: Database, params: TrainParams):
        self.database = database
        self.params = params
        self.targets = database.normalise(database.table["mos"].to_numpy()).astype(np.float32)

    def __getitems__(self, items: list[Item]) -> tuple[Tensor, Tensor]:
        windows, mirrored = zip(*(self._patch(*item) for item in items), strict=True)
        pixels = to_pixels(windows)
        for patch, mirror in zip(pixels, mirrored, strict=True):
            if mirror:  # in torch: four times as quick as a mirrored copy by numpy
                patch.copy_(patch.flip(2))
        targets = self.targets[[image for _, image, _ in items]]
        return pixels, torch.from_numpy(targets)

    def _patch(self, epoch: int, image: int, patch: int) -> tuple[np.ndarray, bool]:
        """A window of an image, and whether it is to be mirrored."""
        pixels = self.database.pixels(image, self.params.input)
        crop = self.params.crop
        top, left, flip = crop_positions(self.params.seed, epoch, image, patch + 1, *pixels.shape[:2], crop)
        return pixels[top[patch] : top[patch] + crop, left[patch] : left[patch] + crop], bool(flip[patch])


class EpochOrder(Sampler):
    """Every patch of the given images once per epoch, in an order decided by seed and epoch alone."""

    def __init__(self, images: np.ndarray, patches: int, seed: int):
        self.items = [(int(image), patch) for image in images for patch in range(patches)]
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        for position in np.random.default_rng([self.seed, self.epoch]).permutation(len(self.items)):
            yield (self.epoch, *self.items[position])


def train_loader(database: Database, params: TrainParams) -> DataLoader:
    """Batches of random patches of the training split."""
    order = EpochOrder(database.indices("train"), params.train_patches, params.seed)
    return DataLoader(
        Patches(database, params),
        batch_size=params.batch_size,
        sampler=order,
        num_workers=params.workers,
        collate_fn=_as_it_is,
        persistent_workers=params.workers > 0,
        pin_memory=choose_device(params.device).type == "cuda",
    )


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch


class Fit(lightning.LightningModule):
    """What Lightning needs to know: the loss of a batch, the optimiser, and what is measured after an epoch."""

    def __init__(self, model: HyperIQA, database: Database, params: TrainParams, folder: Path):
        super().__init__()
        self.model = model
        self.database = database
        self.params = params
        self.folder = folder
        self.history: list[dict[str, float]] = []
        self.seen: list[Tensor] = []

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; the heads at `lr_ratio` times the backbone's rate; no decay of biases and normalisations."""
        params = self.params
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
        rates = [
            {
                "params": group,
                "lr": params.lr * (1 if in_backbone else params.lr_ratio),
                "weight_decay": params.weight_decay if decayed else 0.0,
            }
            for (in_backbone, decayed), group in groups.items()
        ]
        optimizer = torch.optim.AdamW(rates, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedules = {
            "constant": lambda: ConstantLR(optimizer, factor=1.0),
            "cosine": lambda: CosineAnnealingLR(optimizer, steps),
            "one_cycle": lambda: OneCycleLR(optimizer, [r["lr"] for r in rates], total_steps=steps, pct_start=0.15),
        }
        schedule = schedules[params.schedule]()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        self.started = time.perf_counter()
        self.model.train()
        if self.params.freeze_batch_norm:
            for module in self.model.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        # the random state (dropout) follows from seed, epoch and batch, so a resumed run equals an unbroken one
        torch.manual_seed(hash((self.params.seed, self.current_epoch, index)))
        pixels, target = batch
        prediction = self.model(pixels).float()
        params = self.params
        terms = losses.total(prediction, target, params.loss, params.rank_weight, params.rank_margin)
        if not torch.isfinite(terms["total"]):
            raise FloatingPointError(f"the loss is {terms['total'].item()} in epoch {self.current_epoch + 1}")
        self.seen.append(torch.stack([prediction.detach(), target]))
        self.log("loss", terms["total"].detach(), on_step=True, on_epoch=True, prog_bar=True)
        return terms["total"]

    def on_train_epoch_end(self) -> None:
        prediction, target = torch.cat(self.seen, dim=1).cpu().numpy()
        self.seen.clear()
        value, truth = self.validate()
        row = {
            "epoch": self.current_epoch + 1,
            "train_loss": float(self.trainer.callback_metrics["loss_epoch"]),
            "lr": self.trainer.optimizers[0].param_groups[-1]["lr"],
            "train_srcc": metrics.srcc(prediction, target),
            "train_plcc": metrics.plcc(prediction, target),
            "val_loss": float(np.abs(value - truth).mean()),
            "val_srcc": metrics.srcc(value, truth),
            "val_plcc": metrics.plcc(value, truth),
            "seconds": round(time.perf_counter() - self.started, 3),
        }
        self.history.append(row)
        self.log_dict({key: row[key] for key in ("val_loss", "val_srcc", "val_plcc")}, prog_bar=True)
        if best_epoch(self.history, self.params.select_on) == row["epoch"]:
            self.save_best(row)
        pd.DataFrame(self.history).to_csv(self.folder / "history.csv", index=False)
        if in_batch():
            print(
                f"epoch {row['epoch']:>3}/{self.params.epochs}  loss {row['train_loss']:.4f}  train SRCC"
                f" {row['train_srcc']:.3f}  val SRCC {row['val_srcc']:.3f}  PLCC {row['val_plcc']:.3f}"
                f"  {row['seconds']:.1f} s",
                flush=True,
            )

    def validate(self) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true scores of the validation split on 0..1."""
        params, indices = self.params, self.database.indices("val")
        value = score(
            self.model,
            self.database,
            indices,
            input=params.input,
            crops="whole" if params.test_crops == "whole" else "center",
            patches=1,
            crop=params.crop,
            batch_size=params.batch_size,
            precision=params.precision,
        )
        return value, self.database.normalise(self.database.table["mos"].to_numpy()[indices])

    def save_best(self, row: dict[str, float]) -> None:
        """Write `best.pt`: weights, parameters and the database's scale, loadable without this class."""
        database = self.database
        scale = {
            key: getattr(database, key) for key in ("name", "title", "low", "high", "higher_is_better", "synthetic")
        }
        scale["size"] = vars(database.size)
        saved = {"params": self.params.model_dump(), "database": scale, "history_row": row}
        saved["state_dict"] = self.model.state_dict()
        _save(saved, self.folder / "best.pt")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]


def best_epoch(history: list[dict[str, float]] | pd.DataFrame, select_on: str) -> int:
    """The epoch (from 1) whose `select_on` is best: the lowest loss or the highest coefficient, the first of equals."""
    values = pd.DataFrame(history)
    column = values[select_on]
    return int(values["epoch"].iloc[column.argmin() if select_on.endswith("loss") else column.argmax()])


def _update_params(file: Path, params: TrainParams) -> None:
    """Write the parameters of now into a model that is taken as it is; those that decide nothing may differ."""
    saved = torch.load(file, map_location="cpu", weights_only=True)
    if saved["params"] != params.model_dump():
        _save(saved | {"params": params.model_dump()}, file)


def _save(saved: dict[str, Any], file: Path) -> None:
    """Write a whole model file or nothing."""
    part = file.with_name(f".{file.name}.part")
    torch.save(saved, part)
    part.replace(file)


def fit_key(params: TrainParams, database: Database) -> str:
    """Hash of everything that decides the fitted weights: parameters, data, code and versions."""
    decides = params.model_dump(exclude={"study", "run", "test_patches"})
    versions = {name: metadata.version(name) for name in ("torch", "timm", "lightning", "numpy")}
    file = paths.resolve(params.weights) if params.weights else None
    weights = source.file_hash(file) if file and file.is_file() else None  # a missing file is the model's error
    return source.digest(decides, weights, database.fingerprint, source.modules_hash("iqa.training"), versions)


def fit(params: TrainParams, database: Database, folder: Path) -> pd.DataFrame:
    """Train, and return the history, one row per epoch. `folder` receives `best.pt`, `last.ckpt`, `history.csv`.

    A fit that was stopped goes on after its last epoch, and one that is finished is not repeated, as long as
    parameters, data, code and versions are the same (`fit_key`); anything else starts anew.

    Raises:
        ValueError: the database has no images to train on or to validate with.
        FloatingPointError: the loss is not a finite number.
    """
    for split in ("train", "val"):
        if not len(database.indices(split)):
            raise ValueError(f"database '{database.name}' has no images in split '{split}'; see `val_fraction`")
    torch.set_num_threads(params.threads)
    state, last = folder / "fit.json", folder / "last.ckpt"
    key = fit_key(params, database)
    known = json.loads(state.read_text()) if state.is_file() else {}
    same = known.get("key") == key and last.is_file() and (folder / "best.pt").is_file()
    if same and "history" in known:
        print(f"these parameters were already trained here: {len(known['history'])} epochs are taken as they are")
        _update_params(folder / "best.pt", params)
        history = pd.DataFrame(known["history"])
        history.to_csv(folder / "history.csv", index=False)
        return history
    if same:
        print(f"going on from {last.name}")
    else:
        for file in (last, folder / "best.pt"):
            file.unlink(missing_ok=True)
        state.write_text(json.dumps({"key": key}))

    torch.manual_seed(params.seed)
    model = HyperIQA(params.architecture(), params.pretrained, params.weights)
    module = Fit(model.to(memory_format=torch.channels_last), database, params, folder)
    keep_last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks: list[Callback] = [keep_last]
    if params.patience:
        mode = "min" if params.select_on.endswith("loss") else "max"
        callbacks.append(EarlyStopping(params.select_on, patience=params.patience, mode=mode))
    device = choose_device(params.device)
    trainer = lightning.Trainer(
        accelerator=device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision=params.precision,
        max_epochs=params.epochs,
        accumulate_grad_batches=params.accumulate,
        gradient_clip_val=params.clip or None,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=not in_batch(),
        enable_model_summary=False,
    )
    trainer.fit(module, train_loader(database, params), ckpt_path=last if same else None)
    state.write_text(json.dumps({"key": key, "history": module.history}))
    return pd.DataFrame(module.history)
