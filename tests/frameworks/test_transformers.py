"""Hugging Face ``Trainer``: classification, language models of both kinds, data sets of both kinds."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from tests.frameworks.harness import Cases, State, Witness, content, judge, load, need

need("transformers", "accelerate", "datasets")

pytestmark = pytest.mark.filterwarnings("ignore")
CASES = Cases()
WORDS, LENGTH, COUNT = 50, 12, 37


class Texts(Dataset[Any]):
    """Random words, no text like another, of different lengths; a class for each."""

    def __init__(self, *, classes: bool, padded: bool) -> None:
        generator = torch.Generator().manual_seed(1)
        self.words = torch.randint(5, WORDS, (COUNT, LENGTH), generator=generator)
        self.lengths = torch.randint(6, LENGTH + 1, (COUNT,), generator=generator)
        self.labels = torch.randint(0, 3, (COUNT,), generator=generator)
        self._classes, self._padded = classes, padded
        for row, length in zip(self.words, self.lengths):
            row[length:] = 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        words = self.words[index] if self._padded else self.words[index][: self.lengths[index]]
        sample: dict[str, Any] = {"input_ids": words, "attention_mask": (words > 0).long()}
        if self._classes:
            sample["labels"] = int(self.labels[index])
        elif self._padded:
            sample["labels"] = words.masked_fill(words == 0, -100)
        return sample

    def names(self, *, input_ids: torch.Tensor, **named: Any) -> list[int]:
        """Of a batch, padded to its longest."""
        return content(self.words)(F.pad(input_ids, (0, LENGTH - input_ids.shape[1])))


def classifier() -> Any:
    hf = load("transformers")
    return hf.BertForSequenceClassification(hf.BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=LENGTH, num_labels=3))  # fmt: skip


def language_model() -> Any:
    hf = load("transformers")
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=WORDS, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2,
                                      bos_token_id=1, eos_token_id=2))  # fmt: skip


def train(model: Any, data: Any, collator: Any = None, **options: Any) -> State:
    """Two epochs, an evaluation after each."""
    hf = load("transformers")
    with tempfile.TemporaryDirectory() as folder:
        arguments = hf.TrainingArguments(
            folder, num_train_epochs=2, per_device_train_batch_size=4, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_steps=5, seed=3, eval_strategy="epoch", **options)  # fmt: skip
        trainer = hf.Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data,
                               data_collator=collator)  # fmt: skip
        trainer.train()
    return [model.state_dict(), trainer.optimizer.state_dict(), [log.get("loss") for log in trainer.state.log_history]]


def classified(witness: Witness, *, padded: bool = True, collator: Any = None, **options: Any) -> State:
    data, model = Texts(classes=True, padded=padded), classifier()
    witness.attend(model, data.names, lambda samples, output: F.cross_entropy(
        output["logits"], data.labels[samples], reduction="none"))  # fmt: skip
    return train(model, data, collator, **options)


def tokens(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """The loss of each next word, NaN where there is none."""
    words = F.pad(words, (0, 1))[:, 1 : logits.shape[1] + 1]
    each = F.cross_entropy(logits.transpose(1, 2), words, reduction="none")
    return each.masked_fill(words == 0, float("nan"))


def generated(witness: Witness, *, padded: bool = True, collator: Any = None, **options: Any) -> State:
    data, model = Texts(classes=False, padded=padded), language_model()
    witness.attend(model, data.names, lambda samples, output: tokens(output["logits"], data.words[samples]))
    return train(model, data, collator, **options)


@CASES.add("Hugging Face Trainer: BertForSequenceClassification, default collator", "index")
def classes(witness: Witness) -> State:
    return classified(witness)


@CASES.add("Hugging Face Trainer: classification, gradient_accumulation_steps=3", "index")
def accumulated(witness: Witness) -> State:
    return classified(witness, gradient_accumulation_steps=3)


@CASES.add("Hugging Face Trainer: classification, DataCollatorWithPadding", "index")
def padding(witness: Witness) -> State:
    return classified(witness, padded=False, collator=load("transformers").DataCollatorWithPadding(tokenizer()))


@CASES.add("Hugging Face Trainer: classification, group_by_length", "index")
def grouped(witness: Witness) -> State:
    return classified(witness, padded=False, collator=load("transformers").DataCollatorWithPadding(tokenizer()),
                      train_sampling_strategy="group_by_length")  # fmt: skip


@CASES.add("Hugging Face Trainer: GPT2LMHeadModel, labels with -100, default collator", "index")
def causal(witness: Witness) -> State:
    return generated(witness)


@CASES.add("Hugging Face Trainer: GPT2LMHeadModel, gradient_accumulation_steps=2", "index")
def causal_accumulated(witness: Witness) -> State:
    return generated(witness, gradient_accumulation_steps=2)


@CASES.add("Hugging Face Trainer: GPT2LMHeadModel, DataCollatorForLanguageModeling", "index")
def causal_collated(witness: Witness) -> State:
    return generated(
        witness, padded=False, collator=load("transformers").DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    )


@CASES.add("Hugging Face Trainer: a datasets.Dataset, columns removed by the Trainer", "index")
def arrow(witness: Witness) -> State:
    texts, model = Texts(classes=True, padded=True), classifier()
    witness.attend(model, texts.names, lambda samples, output: F.cross_entropy(
        output["logits"], texts.labels[samples], reduction="none"))  # fmt: skip
    columns = {"input_ids": texts.words.tolist(), "labels": texts.labels.tolist(), "text": ["x"] * COUNT}
    return train(model, load("datasets").Dataset.from_dict(columns))


@CASES.add("Hugging Face Trainer: label_smoothing_factor=0.1", "index")
def smoothed(witness: Witness) -> State:
    data, model = Texts(classes=True, padded=True), classifier()
    witness.attend(model, data.names, lambda samples, output: F.cross_entropy(
        output["logits"], data.labels[samples], reduction="none", label_smoothing=0.1))  # fmt: skip
    return train(model, data, label_smoothing_factor=0.1)


class Heads(Texts):
    """The same words, with what other heads want: a number, flags, a class for each word, a span."""

    def __init__(self, kind: str) -> None:
        super().__init__(classes=False, padded=True)
        generator = torch.Generator().manual_seed(2)
        self.targets: dict[str, torch.Tensor] = {
            "value": torch.randn(COUNT, generator=generator),
            "flags": torch.rand(COUNT, 3, generator=generator).round(),
            "words": (self.words % 3).masked_fill(self.words == 0, -100),
            "span": torch.stack([self.lengths // 3, self.lengths // 2], 1),
        }
        self._kind = kind

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = super().__getitem__(index)
        target = self.targets[self._kind][index]
        if self._kind != "span":
            return {**sample, "labels": target}
        del sample["labels"]
        return {**sample, "start_positions": target[0], "end_positions": target[1]}


def headed(witness: Witness, head: str, kind: str, losses: Any, **config: Any) -> State:
    """Train one of Bert's heads; ``losses`` of its output and the targets of a batch."""
    hf = load("transformers")
    data = Heads(kind)
    model = getattr(hf, head)(hf.BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=LENGTH, **config))  # fmt: skip
    witness.attend(model, data.names, lambda samples, output: losses(output, data.targets[kind][samples]))
    return train(model, data)


@CASES.add("Hugging Face Trainer: classification with one label (mean squared error)", "index")
def value(witness: Witness) -> State:
    return headed(witness, "BertForSequenceClassification", "value", lambda output, target: F.mse_loss(
        output["logits"][:, 0], target, reduction="none"), num_labels=1)  # fmt: skip


@CASES.add("Hugging Face Trainer: multi-label classification", "index")
def flags(witness: Witness) -> State:
    return headed(
        witness, "BertForSequenceClassification", "flags",
        lambda output, target: F.binary_cross_entropy_with_logits(output["logits"], target, reduction="none"),
        num_labels=3, problem_type="multi_label_classification",
    )  # fmt: skip


@CASES.add("Hugging Face Trainer: BertForTokenClassification", "index")
def word_classes(witness: Witness) -> State:
    def losses(output: Any, target: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(output["logits"].transpose(1, 2), target, reduction="none")
        return each.masked_fill(target == -100, float("nan"))

    return headed(witness, "BertForTokenClassification", "words", losses, num_labels=3)


@CASES.add("Hugging Face Trainer: BertForQuestionAnswering (two losses, averaged)", "index")
def span(witness: Witness) -> State:
    def losses(output: Any, target: torch.Tensor) -> torch.Tensor:
        begin = F.cross_entropy(output["start_logits"], target[:, 0], reduction="none")
        return (begin + F.cross_entropy(output["end_logits"], target[:, 1], reduction="none")) / 2

    return headed(witness, "BertForQuestionAnswering", "span", losses)


def tokenizer() -> Any:
    """Made here, of nothing."""
    tokenizers, models = load("tokenizers"), load("tokenizers.models")
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "[MASK]": 4, **{f"w{n}": n for n in range(5, WORDS)}}
    return load("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(models.WordLevel(words, "[UNK]")), pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", unk_token="[UNK]", mask_token="[MASK]")  # fmt: skip


@pytest.mark.parametrize("name", CASES.marked())
def test_what_is_captured(name: str) -> None:
    judge(CASES[name])
