"""One model in training: its step, its validation, its checkpoints.

Several of them can train side by side (loop.py): each has its own random numbers, optimizer,
schedule, history and checkpoints, so that it ends as it would alone.
"""

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from eliquare import stage
from eliquare.training import checkpoints
from eliquare.training.history import History
from eliquare.training.optimizer import Schedule, optimizer_of
from eliquare.training.processes import Processes, without_averaging
from eliquare.training.randomness import Randomness
from eliquare.training.terms import Batch, Objective, Terms, mean

NEVER = 2**62


class Trainer:
    """Minimises the weighted sum of the objective's terms, each a mean over its positions.

    ``objective(model, batch, progress)`` gives the loss, and for each term its sum over positions
    and how many these are; ``weights`` weigh the terms of a validation. ``bf16``
    puts teacher, student and loss under autocast; weights and optimizer stay float32.
    ``best_by`` is the term, or "loss", whose lowest validation marks the best weights.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        weights: dict[str, float],
        best_by: str,
        schedule: Schedule,
        seed: int,
        bf16: bool,
        folder: Path,
        processes: Processes,
    ):
        self.processes = processes
        self.plain_model = model.to(processes.device).train()
        self.model = processes.share(self.plain_model)
        self.objective = objective
        self.weights = weights
        self.names = list(weights)
        self.best_by = best_by
        self.schedule = schedule
        self.bf16 = bf16
        self.folder = folder
        self.optimizer = optimizer_of(self.plain_model, schedule)
        self.randomness = Randomness(seed + processes.rank, processes.device)
        self.step = 0
        self.best_step, self.best_value = None, math.inf
        self.saved = -1
        self.history = History(folder / "history.jsonl", processes.first)
        self._forget_sums()
        # For each term and the gradient's norm: the first step at which it was not a number.
        self.first_broken = torch.full(
            (len(self.names) + 1,), NEVER, dtype=torch.int64, device=processes.device
        )

    @property
    def done(self) -> bool:
        """Whether every step is done."""
        return self.step >= self.schedule.steps

    # The step

    def accumulate(self, batch: Batch, passes: int, last: bool) -> None:
        """Add the gradients of one of a step's ``passes``; processes meet at the last one only."""
        with self.randomness.in_use(), without_averaging(self.model, not last):
            with self.autocast():
                progress = self.step / self.schedule.steps
                losses = self.objective(self.model, batch, progress)
            (losses.loss / passes).backward()
        self.changing_weights = {f"weight_{name}": at for name, at in losses.weights.items()}
        self._add_to_sums(losses.loss, losses.terms, batch["attention_mask"])

    def update(self) -> None:
        """Take the step that the accumulated gradients say."""
        rate = self.schedule.rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parameters = self.plain_model.parameters()
        self.gradient_norm = nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._look_for_broken(self.gradient_norm.detach(), slice(len(self.names), None), self.step)
        if self.processes.device.type == "cpu" and self.processes.count == 1:
            # Looking costs nothing here; on a GPU it would wait for the step to end.
            self._refuse_broken()
        if self.schedule.logs_at(self.step):
            self._log(rate)

    def autocast(self) -> torch.autocast:
        """bf16 for teacher, student and loss alike, if asked for."""
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bf16)

    # What is written down of it

    def _forget_sums(self) -> None:
        """Start the sums since the last logged step: terms, loss, passes, real tokens, positions.

        On the device, so that no step waits for a number to reach the processor.
        """
        size = len(self.names) + 4
        self.sums = torch.zeros(size, dtype=torch.float64, device=self.processes.device)

    def _add_to_sums(self, loss: torch.Tensor, terms: Terms, mask: torch.Tensor) -> None:
        seen = [mean(*terms[name]) for name in self.names]
        seen += [loss, mask.new_ones(()), mask.sum(), mask.new_tensor(mask.numel())]
        values = torch.stack([value.detach().to(self.sums.dtype) for value in seen])
        self.sums += values
        self._look_for_broken(values[: len(self.names)], slice(len(self.names)), self.step + 1)

    def _look_for_broken(self, values: torch.Tensor, places: slice, step: int) -> None:
        now = torch.where(torch.isfinite(values), NEVER, step)
        self.first_broken[places] = torch.minimum(self.first_broken[places], now)

    def _refuse_broken(self) -> None:
        """Raise Failure with the terms and the step where the first was not a number."""
        broken = self.processes.least(self.first_broken.cpu()).tolist()
        first = min(broken)
        if first == NEVER:
            return
        terms = zip(self.names, broken[:-1], strict=True)
        culprits = [name for name, step in terms if step == first]
        raise self._failure(first, culprits or ["the gradient's norm"])

    def _failure(self, step: int, culprits: list[str]) -> stage.Failure:
        """The Failure that names what was not a number, and at which step."""
        verb = "is" if len(culprits) == 1 else "are"
        return stage.Failure(
            f"step {step}: {' and '.join(culprits)} {verb} not a number (NaN or infinite); the "
            f"last whole checkpoint is kept in {self.folder}. Try a lower learning rate, or float32"
        )

    def _log(self, rate: float) -> None:
        self._refuse_broken()
        *terms, loss, passes, real, positions = self.processes.sum(self.sums.cpu()).tolist()
        means = {name: total / passes for name, total in zip(self.names, terms, strict=True)}
        line = {
            "step": self.step,
            **self.history.pace(int(real)),
            "real_token_share": round(real / positions, 4),
            "learning_rate": rate,
            "gradient_norm": float(self.gradient_norm),
            "loss": loss / passes,
        }
        self.history.add(line | means | self.changing_weights, self.schedule.steps)
        self._forget_sums()

    # Validation: each term a mean over all positions of the whole set of fixed masks

    def begin_validation(self) -> None:
        """Forget the validation before."""
        self.plain_model.eval()
        self._totals = dict.fromkeys(self.names, 0.0)
        self._counts = dict.fromkeys(self.names, 0)

    @torch.no_grad()
    def validate_on(self, batch: Batch) -> None:
        """Add one batch of the validation set."""
        with self.autocast():
            # Not the shared model: every process goes through the whole set, so that their number
            # changes no digit.
            losses = self.objective(self.plain_model, batch, 1.0)
        for name, (total, count) in losses.terms.items():
            self._totals[name] += total.double()
            self._counts[name] += count

    def end_validation(self) -> bool:
        """Write the validation down; return whether it is the best so far."""
        self.plain_model.train()
        means = {
            name: float(self._totals[name]) / max(int(self._counts[name]), 1) for name in self.names
        }
        loss = sum(self.weights[name] * value for name, value in means.items())
        validated = {f"validation_{name}": value for name, value in means.items()}
        culprits = [name for name, value in validated.items() if not math.isfinite(value)]
        if culprits:
            raise self._failure(self.step, culprits)
        line = {"step": self.step, "validation_loss": loss}
        self.history.add(line | validated, self.schedule.steps)
        value = (means | {"loss": loss})[self.best_by]
        better = value < self.best_value
        if better:
            self.best_step, self.best_value = self.step, value
        return better

    # Checkpoints

    def save(self) -> None:
        """Write a checkpoint of this step; raises Failure, with the last one kept, if it cannot."""
        if self.saved == self.step:
            return
        self._refuse_broken()
        of_each = {"random": self.randomness.state, "sums": self.sums.cpu()}
        of_all = self.processes.gather(of_each)
        if self.processes.first:
            try:
                self._write(of_all)
            except (OSError, RuntimeError, SafetensorError) as error:
                # torch and safetensors raise their own errors where the disk is full.
                raise stage.Failure(
                    f"{self.folder}: checkpoint-{self.step} cannot be written "
                    f"({(str(error) or type(error).__name__).splitlines()[0]}); the last whole "
                    "checkpoint is kept. Make room, then start the same command again"
                ) from error
        self.saved = self.step

    def _write(self, of_all: list[dict]) -> None:
        state = {
            "step": self.step,
            "best_step": self.best_step,
            "best_value": self.best_value if self.best_step else None,
        }
        with checkpoints.writing(self.folder, self.step, state) as partial:
            save_model(self.plain_model, str(partial / "model.safetensors"))
            torch.save(
                {"optimizer": self.optimizer.state_dict(), "processes": of_all},
                partial / "training.pt",
            )
            if self.best_step == self.step:
                checkpoints.link(partial / "model.safetensors", partial / "best.safetensors")
            elif self.best_step:
                best = self.folder / f"checkpoint-{self.saved}" / "best.safetensors"
                checkpoints.link(best, partial / "best.safetensors")

    def restore(self, checkpoint: Path) -> None:
        """Go on from a whole checkpoint."""
        device = str(self.processes.device)
        state = checkpoints.state_of(checkpoint)
        load_model(self.plain_model, checkpoint / "model.safetensors", device=device)
        saved = torch.load(checkpoint / "training.pt", map_location="cpu", weights_only=True)
        self.optimizer.load_state_dict(saved["optimizer"])
        of_this = saved["processes"][self.processes.rank]
        self.randomness.state = of_this["random"]
        self.sums = of_this["sums"].to(device)
        self.step = self.saved = state["step"]
        if state["best_step"]:
            self.best_step, self.best_value = state["best_step"], state["best_value"]
        self.history.go_back_to(self.step)

    def load_best(self) -> nn.Module:
        """The model with its best validated weights, after the last checkpoint was written."""
        best = self.folder / f"checkpoint-{self.saved}" / "best.safetensors"
        load_model(self.plain_model, best, device=str(self.processes.device))
        return self.plain_model
