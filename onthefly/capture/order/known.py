"""Functions and classes of libraries whose batches come in the order of their items.

Each was read; a class derived from one of them is not meant, since it may do anything.
"""

from __future__ import annotations

import sys
from typing import Any

COLLATES = frozenset({
    ("torch.utils.data._utils.collate", "default_collate"),
    ("transformers.data.data_collator", "default_data_collator"),
    ("transformers.data.data_collator", "torch_default_data_collator"),
    ("transformers.data.data_collator", "DefaultDataCollator"),
    ("transformers.data.data_collator", "DataCollatorWithPadding"),
    ("transformers.data.data_collator", "DataCollatorForTokenClassification"),
    ("transformers.data.data_collator", "DataCollatorForMultipleChoice"),
    ("transformers.data.data_collator", "DataCollatorForSeq2Seq"),
    ("transformers.data.data_collator", "DataCollatorForLanguageModeling"),
})  # fmt: skip
"""By module and qualified name, the functions themselves or the classes of what is called."""

TOKENIZERS = "transformers.tokenization_utils_base"


CONVERT = frozenset({("torch.utils.data._utils.collate", "default_convert")})
"""Makes tensors of arrays, wherever they are, and nothing else."""
GRAPHS = frozenset({("torch_geometric.loader.dataloader", "Collater")})


def is_one_of(thing: Any, names: frozenset[tuple[str, str]]) -> bool:
    """Whether it is one of them itself, and not something that took over its name."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    module, name = getattr(named, "__module__", ""), getattr(named, "__qualname__", "")
    return (module, name) in names and getattr(sys.modules.get(module), name, None) is named


def tokenizes(owner: Any, function: Any) -> bool:
    """Whether the method is how a tokenizer of ``transformers`` encodes or pads a list of texts: one row a text."""
    base: Any = getattr(sys.modules.get(TOKENIZERS), "PreTrainedTokenizerBase", None)
    of_library = type(owner).__module__.startswith("transformers.")
    return base is not None and of_library and any(function is vars(base).get(name) for name in ("__call__", "pad"))
