"""The scripts, what is in each, and how its pause points are counted."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple


class Case(NamedTuple):
    """One script of ``scripts/``."""

    name: str
    what: str
    """What is in it."""
    points: int = 1
    """Pause points for each line ``step N ...`` that it prints."""
    unit: str = "point"
    """``point``: its optimizers' steps are pause points; ``backward``: it has none, and backward calls are counted."""
    seeded: bool = True
    """Whether two plain runs are equal; if not, the whole run that is compared with is the watched one."""
    given: tuple[str, ...] = ()
    """What follows the folder for its files on its command line."""
    needs: str = ""
    """A package that it imports beside torch and numpy."""

    @property
    def missing(self) -> str:
        """Why it cannot run here; empty if it can."""
        return f"{self.needs} is not installed" if self.needs and find_spec(self.needs) is None else ""


CASES = {
    case.name: case
    for case in [
        Case("epochs", "epochs with StepLR, validation, best model saved, csv.writer held open"),
        Case(
            "range_steps", "for step in range(N) over an endless generator, OneCycleLR, dropout, numbered checkpoints"
        ),
        Case(
            "fast_forwarded",
            "for step in range(N), next() of an iterator made anew each pass: a prototype was wrong here",
        ),
        Case(
            "trainer_class",
            "a trainer class, its own generator of batches, a warm-up loop: a prototype was wrong here",
        ),
        Case(
            "while_iterator", "while step < n, next() with StopIteration, ReduceLROnPlateau, deque, log in try/finally"
        ),
        Case("amp_accumulation", "autocast bfloat16, GradScaler, accumulation with a remainder, cosine schedule"),
        Case(
            "workers_augment",
            "augmentation by torch, numpy and random in 2 workers, label smoothing, whole model saved",
        ),
        Case("ema_workers", "EMA by hand, persistent workers that prefetch, warm restarts, mixup by numpy"),
        Case("early_stopping", "patience counters, deep copies of the best state and model, break, for ... else"),
        Case("swa", "AveragedModel, SWALR, update_bn, BatchNorm"),
        Case("gan", "GAN with two Adams, noise drawn in the loop, samples from fixed noise", points=2),
        Case(
            "wgan_spectral",
            "several critic steps for each of the generator's, spectral and weight norm, gradient penalty",
        ),
        Case("lbfgs", "LBFGS with a closure and strong Wolfe line search, a global counter, double precision"),
        Case("vae", "noise of the reparametrization, losses summed by hand, a global that anneals"),
        Case(
            "rnn_carried",
            "hidden state carried over batches, learning rate cut by the script, text sampled between epochs",
        ),
        Case(
            "transformer",
            "tied weights, gradient checkpointing, groups with LambdaLR, the next batch drawn ahead, while True",
        ),
        Case(
            "several_loaders",
            "zip of itertools.cycle and a loader, two optimizers with schedulers, defaultdict of lists",
            points=2,
        ),
        Case(
            "alternating",
            "random.choices among tasks, an iterator for each, Counter, set, namedtuple; three optimizers",
        ),
        Case(
            "hand_sgd",
            "no optimizer: tensors updated by hand, momentum in a list, randperm and slices",
            unit="backward",
        ),
        Case("closures", "counters by nonlocal, callbacks, lambdas, namedtuple, Counter, set, defaultdict of dicts"),
        Case("progress_logging", "a progress bar on standard error, logging to a file, meters with __slots__"),
        Case("tqdm_bars", "tqdm over epochs and batches, postfix, tqdm.write, a loss summed as tensor", needs="tqdm"),
        Case(
            "unfreeze",
            "in epoch 2 a new optimizer and scheduler, in epoch 4 a new head and group; a loader each epoch",
        ),
        Case(
            "curriculum", "dataset changed by epoch, WeightedRandomSampler whose weights follow the losses, while True"
        ),
        Case(
            "batch_sampler",
            "a batch sampler with a random.Random of its own, packed sequences, collate function, CyclicLR",
        ),
        Case(
            "iterable_stream", "IterableDataset over 2 workers, a shuffle buffer in a generator, log opened to append"
        ),
        Case(
            "replay_buffer",
            "Q-learning: deque of named tuples, random.sample, target network, numpy generator, continue",
        ),
        Case(
            "two_files",
            "training functions and history in a second module, checkpoint overwritten each epoch, inference_mode",
        ),
        Case("contrastive", "two views of a sample, momentum encoder by .data, queue in a buffer with a pointer"),
        Case(
            "schedule_free",
            "an optimizer of the script's own with train and eval modes, a decorator that counts, continue",
        ),
        Case("generators", "torch.Generator, numpy PCG64, Philox and RandomState, random.Random; one in the dataset"),
        Case("unseeded", "nobody seeded it, and a set of strings decides the order of the layers", seeded=False),
        Case(
            "with_blocks", "writer class, ExitStack, StringIO, grad mode switches, buffered files; ends by sys.exit(3)"
        ),
        Case(
            "generator_train",
            "training is a generator that the caller takes metrics from, itertools.chain, repeat, count",
        ),
        Case("kfold", "three folds, each with a new model of another size, optimizer and loader"),
        Case("maml", "autograd.grad inner loop, functional_call, ChainedScheduler, an iterator class without a loader"),
        Case(
            "seventh",
            "augmentation in 2 workers, AdamW with amsgrad, OneCycleLR, BatchNorm; row 30's script",
            given=("2", "shuffled"),
        ),
        Case("sqlite_log", "metrics in an SQLite database that stays open, a lock, a compiled regular expression"),
        Case("thread_trains", "training runs in a thread, its metrics go through a queue"),
        Case(
            "lightning_fit",
            "Lightning's Trainer with scheduler, validation, early stopping, callback",
            needs="lightning",
        ),
        Case("hf_trainer", "the Hugging Face Trainer with evaluation and warm-up", needs="transformers"),
        Case("accelerate_loop", "accelerate: prepare, accumulate, clipping, prepared scheduler", needs="accelerate"),
        Case("ignite_engine", "Ignite's engine with handlers and an evaluator", needs="ignite"),
    ]
}
