"""The training loop, on accelerate.

The same call runs on one CPU, one GPU, or many processes under ``accelerate launch``. Progress is
measured in *minutes of training*, which survive a kill: a run resumes where its last saved state
was, with the schedule it had.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from compressai_gen.errors import OptionError
from compressai_gen.training.data import PhotoCrops
from compressai_gen.training.ema import MovingAverage
from compressai_gen.training.log import TrainingLog
from compressai_gen.training.optimizers import Optimizers, network_parameters
from compressai_gen.training.recipe import Recipe
from compressai_gen.training.state_file import StateFile

SAVE_EVERY_SECONDS = float(os.environ.get("COMPRESSAI_GEN_SAVE_SECONDS", "120"))
LOG_EVERY_STEPS = 50


@dataclass(frozen=True)
class Losses:
    """What one step costs.

    Attributes:
        loss: scalar to minimise.
        columns: what the log shows, by name, one value a picture, each of shape (B,).
    """

    loss: Tensor
    columns: Mapping[str, Tensor]


class Task(nn.Module):
    """Model and losses in one module, so that a distributed wrapper sees every parameter used.

    Args:
        name: what is trained, for the first line of the output.
        model: what is trained, averaged and saved.
    """

    def __init__(self, name: str, model: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.model = model

    def forward(self, x: Tensor) -> Losses:
        """Losses of images (B, 3, H, W) in [0, 1]."""
        raise NotImplementedError


class Trainer:
    """One training run in one folder.

    Args:
        task: what is trained, and for what.
        recipe: how.
        data: folder of photographs.
        out: folder of the run: ``state.pt`` (to resume), ``log.csv``.
        seed: of crops, rate points and noise.
        workers: processes that read photographs; 0 reads them in between the steps.
        max_steps: stop after this many steps, at least 1, even if time is left.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        data: str | Path,
        out: str | Path,
        *,
        seed: int = 0,
        workers: int = 0,
        max_steps: int | None = None,
    ) -> None:
        self.recipe, self.out, self.data, self.workers = recipe, Path(out), data, workers
        self.max_steps = max_steps
        self.accelerator = Accelerator(mixed_precision="no")  # one setting a process; see autocast
        set_seed(seed, device_specific=True)
        self.seed = seed
        self.step, self.seconds = 0, 0.0
        task.to(self.accelerator.device)
        self.optimizers = Optimizers(
            task.model, recipe.learning_rate, recipe.muon, recipe.weight_decay, recipe.adam
        )
        self.module = self.accelerator.prepare(task)
        self.ema = MovingAverage(self.model, recipe.ema)
        self.state_file = StateFile(self.out / "state.pt")

    @property
    def model(self) -> Any:
        """The model itself, out of its distributed wrapper."""
        return self.accelerator.unwrap_model(self.module).model

    # -- running ------------------------------------------------------------------------------

    def train(self) -> Any:
        """Run to the end of the time budget and return the averaged model, in eval mode."""
        self.out.mkdir(parents=True, exist_ok=True)
        self.resume()
        self.announce()
        log = TrainingLog(self.out / "log.csv", self.step, self.accelerator.is_main_process)
        bar = tqdm(
            total=round(60 * self.recipe.minutes),
            initial=round(self.seconds),
            unit="s",
            disable=not self.accelerator.is_main_process,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        )
        with bar:
            try:
                self.run(log, bar)
            except KeyboardInterrupt:
                if self.accelerator.num_processes == 1:  # others would wait for one another
                    self.save()
                raise
        self.save()
        self.ema.copy_to(self.model)
        return self.model.eval()

    def run(self, log: TrainingLog, bar: Any) -> None:
        """Step after step until the budget is spent."""
        last_save = clock = time.monotonic()
        for x in self.batches():
            if self.finished():
                return
            self.set_learning_rate()
            losses = self.train_step(x)
            self.step += 1
            now = time.monotonic()
            self.seconds, clock = self.shared_clock(self.seconds + now - clock), now
            log.add(losses.columns)
            if self.step % LOG_EVERY_STEPS == 0:
                rate = self.optimizers.learning_rate()
                bar.set_postfix_str(log.write(self.step, self.seconds, rate))
                bar.update(round(self.seconds) - bar.n)
            if self.shared_clock(now - last_save) > SAVE_EVERY_SECONDS:
                self.save()
                last_save = now

    def train_step(self, x: Tensor) -> Losses:
        """One update."""
        with self.autocast():
            losses: Losses = self.module(x)
        self.accelerator.backward(losses.loss)
        self.accelerator.clip_grad_norm_(network_parameters(self.model), self.recipe.clip)
        self.optimizers.step()
        self.ema.update(self.model)
        return losses

    def autocast(self) -> torch.autocast:
        """The recipe's; accelerate would hold every run of a process to the first one's."""
        enabled = self.recipe.autocast == "bf16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=enabled)

    def batches(self) -> Iterator[Tensor]:
        """Batches on the device; crops of a step are a function of seed, step and process."""
        process = self.accelerator.process_index
        crops = PhotoCrops(self.data, self.recipe.crop, self.seed + 7919 * process + 31 * self.step)
        loader = DataLoader(crops, self.recipe.batch_size, num_workers=self.workers)
        for x in loader:
            yield x.to(self.accelerator.device)

    def announce(self) -> None:
        """One line: what runs where."""
        name = self.accelerator.unwrap_model(self.module).name
        parameters = sum(p.numel() for p in self.model.parameters())
        self.accelerator.print(
            f"{name}: {parameters / 1e6:.2f} M parameters, "
            f"{self.accelerator.num_processes} processes on {self.accelerator.device.type}, "
            f"step {self.step}, {self.seconds / 60:.1f} of {self.recipe.minutes:g} minutes done",
            file=sys.stderr,
        )

    # -- schedule -----------------------------------------------------------------------------

    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]: of the minutes, or of the steps if given."""
        by_time = self.seconds / (60 * self.recipe.minutes)
        by_steps = 0.0 if self.max_steps is None else self.step / self.max_steps
        return min(1.0, max(by_time, by_steps))

    def finished(self) -> bool:
        return self.progress() >= 1

    def shared_clock(self, seconds: float) -> float:
        """The main process's clock, so that all processes stop at the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        return float(broadcast(torch.tensor(seconds, device=self.accelerator.device)).item())

    def set_learning_rate(self) -> None:
        """Linear warm-up, plateau, cosine to 1 % at the end."""
        self.optimizers.scale(schedule(self.progress(), self.recipe.warmup, self.recipe.decay))

    # -- state --------------------------------------------------------------------------------

    def save(self) -> None:
        """Keep the state."""
        if self.accelerator.is_main_process:
            self.state_file.write(
                {
                    "model": self.model.state_dict(),
                    "optimizers": self.optimizers.state_dict(),
                    "ema": self.ema.state_dict(),
                    "step": self.step,
                    "seconds": self.seconds,
                }
            )
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from the saved state, if there is one, with fresh random draws.

        Raises:
            OptionError: if other parameters were trained, or by other optimisers.
        """
        state = self.state_file.read()
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        try:
            self.optimizers.load_state_dict(state["optimizers"])
        except ValueError as error:  # from torch, or of another number of them
            raise OptionError(
                f"{self.state_file.path} is of a run that trains by other optimisers: give the "
                f"same settings to go on (--preset and --muon among them), or another --out"
            ) from error
        self.ema.load_state_dict(state["ema"])
        self.step, self.seconds = state["step"], state["seconds"]
        set_seed(self.seed + self.step, device_specific=True)


def schedule(progress: float, warmup: float, decay: float) -> float:
    """Factor on the learning rate at ``progress`` in [0, 1]."""
    if progress < warmup:
        return max(progress / warmup, 0.01)
    if progress <= 1 - decay:
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - 1 + decay) / decay))
