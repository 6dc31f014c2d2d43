"""sentence-transformers: its Trainer and its older ``fit``, with losses of pairs."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("sentence_transformers", "datasets", "transformers", "accelerate")

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = Cases()
COUNT = 23
SCORES = torch.linspace(0, 1, COUNT)
"""No two are alike: each tells which pair it is of."""


def model() -> Any:
    """A transformer of one layer and its tokenizer, written to a folder and read from there, as a user's would be."""
    hf, modules = load("transformers"), load("sentence_transformers.sentence_transformer.modules")
    tokenizers = load("tokenizers")
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": 4, **{f"w{n}": n for n in range(5, 50)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]")  # fmt: skip
    config = hf.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=16)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        hf.BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = modules.Transformer(folder, max_seq_length=16)
    return load("sentence_transformers").SentenceTransformer(modules=[transformer, modules.Pooling(16)], device="cpu")


def pairs() -> tuple[list[str], list[str]]:
    """Sentences, none like another."""
    first = [" ".join(f"w{5 + (n * k) % 45}" for k in range(1, 4 + n % 3)) for n in range(COUNT)]
    return first, [f"w{5 + n} {text}" for n, text in enumerate(reversed(first))]


def attended(witness: Witness, loss: Any) -> Any:
    """The squared error of the pairs' similarity: given predictions and scores."""
    witness.attend(loss.loss_fct, lambda x, y: content(SCORES[:, None])(y.reshape(-1, 1)),
                   lambda samples, x: F.mse_loss(x, SCORES[samples], reduction="none"),
                   look=lambda args, output: args[0])  # fmt: skip
    return loss


@CASES.add("sentence-transformers: SentenceTransformerTrainer, CosineSimilarityLoss", "exact")
def trainer(witness: Witness) -> State:
    sentences, losses = load("sentence_transformers"), load("sentence_transformers.sentence_transformer.losses")
    first, second = pairs()
    trained = model()
    data = load("datasets").Dataset.from_dict({"a": first, "b": second, "score": SCORES.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        arguments = sentences.SentenceTransformerTrainingArguments(
            folder, num_train_epochs=2, per_device_train_batch_size=4, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, seed=3)  # fmt: skip
        made = sentences.SentenceTransformerTrainer(trained, arguments, data, loss=attended(
            witness, losses.CosineSimilarityLoss(trained)))  # fmt: skip
        made.train()
    return [trained.state_dict(), made.optimizer.state_dict()]


@CASES.add("sentence-transformers: fit with InputExamples, CosineSimilarityLoss", "exact")
def fit(witness: Witness) -> State:
    losses, trained = load("sentence_transformers.sentence_transformer.losses"), model()
    examples = input_examples()
    trained.fit([(DataLoader(examples, 4, shuffle=True), attended(witness, losses.CosineSimilarityLoss(trained)))],
                epochs=2, show_progress_bar=False, output_path=None, warmup_steps=0)  # fmt: skip
    return trained.state_dict()


@CASES.add("sentence-transformers: old_fit, a loop of its own, CosineSimilarityLoss", "exact")
def old_fit(witness: Witness) -> State:
    losses, trained = load("sentence_transformers.sentence_transformer.losses"), model()
    examples = input_examples()
    trained.old_fit([(DataLoader(examples, 4, shuffle=True), attended(witness, losses.CosineSimilarityLoss(trained)))],
                    epochs=2, show_progress_bar=False, warmup_steps=0)  # fmt: skip
    return trained.state_dict()


def input_examples() -> Any:
    kind = load("sentence_transformers").InputExample
    return [kind(texts=[a, b], label=score) for a, b, score in zip(*pairs(), SCORES.tolist())]


class Similarity(torch.nn.Module):
    """The loss's default, where a witness can stand.

    The model is called for a batch's first sentences, whose first word tells the pair, then for its second ones.
    """

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return load("sentence_transformers.util").cos_sim(first, second)


@CASES.add(
    "sentence-transformers: MultipleNegativesRankingLoss (targets are places in the batch)", "they are not samples"
)
def ranking(witness: Witness) -> State:
    sentences, losses = load("sentence_transformers"), load("sentence_transformers.sentence_transformer.losses")
    first, second = pairs()
    trained = model()
    anchors: list[torch.Tensor] = []
    trained.register_forward_hook(lambda module, args, output: anchors.append(args[0]["input_ids"][:, 0] - 5))
    similarity = Similarity()
    witness.attend(similarity, lambda x, y: anchors[-2].tolist(), lambda samples, alike: F.cross_entropy(
        20 * alike, torch.arange(len(alike)), reduction="none"))  # fmt: skip
    loss = losses.MultipleNegativesRankingLoss(trained, scale=20, similarity_fct=similarity)
    data = load("datasets").Dataset.from_dict({"a": first, "b": second})
    with tempfile.TemporaryDirectory() as folder:
        arguments = sentences.SentenceTransformerTrainingArguments(
            folder, num_train_epochs=1, per_device_train_batch_size=4, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, seed=3)  # fmt: skip
        made = sentences.SentenceTransformerTrainer(trained, arguments, data, loss=loss)
        made.train()
    return trained.state_dict()


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
