"""Commands that ask a paused script's model something, and change nothing: rows of ``COMMANDS`` too."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from onthefly.protocol.given import MAX_SAMPLES, CommandArguments, Index, Name, Text

Mode = Literal["eval", "train"]


class Test(CommandArguments):
    """How good the model is now, on the samples of a loader; the script does a step or two where it must."""

    loader: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """``loader1``, ..., or the name of its variable; empty: one that is not trained on."""
    mode: Mode = "eval"
    """As the model behaves when it is evaluated, or as in the step that was traced (dropout, batch statistics)."""
    checkpoint: Name = ""
    """With the weights of this checkpoint; empty: those of now."""
    using: Literal["", "recipe", "registered", "framework"] = ""
    """Which way; empty: what the script registered, else the framework's evaluation step, else the recipe."""


class Scan(CommandArguments):
    """The loss of every sample of a loader, under the weights of now or of a checkpoint."""

    loader: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """``loader0``, ..., or the name of its variable; empty: the one that is trained on."""
    mode: Mode = "eval"
    """As the model behaves when it is evaluated, or as in the step that was traced (dropout, batch statistics)."""
    checkpoint: Name = ""
    """With the weights of this checkpoint; empty: those of now."""
    samples: Annotated[list[Index], msgspec.Meta(max_length=MAX_SAMPLES)] = []
    """Only these, by their index; none: all."""
    module: Text = ""
    """Keep this module's output of each sample as its embedding: ``encoder.layer4``."""
    using: Literal["", "recipe", "registered", "framework"] = ""
    """Which way; empty: what the script registered, else the recipe."""
