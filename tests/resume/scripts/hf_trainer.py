"""The Hugging Face Trainer with a module of the script's own, evaluation each epoch, no checkpoint of its own."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.utils import logging

logging.set_verbosity_error()


class Pairs(Dataset):
    def __init__(self, n, seed):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 6, generator=generator)
        self.labels = (self.x.sum(1) > 0).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.labels[i]}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))

    def forward(self, x, labels=None):
        logits = self.net(x)
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return {"loss": loss, "logits": logits}


class Printer(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            print(f"step {state.global_step} loss {logs['loss']} lr {logs['learning_rate']}")
        elif "eval_loss" in logs:
            print(f"eval {logs['eval_loss']:.8f}")


def main():
    out = sys.argv[1]
    set_seed(17)
    model = Classifier()
    args = TrainingArguments(
        output_dir=out, num_train_epochs=4, per_device_train_batch_size=8, learning_rate=5e-3, warmup_steps=4, logging_steps=1,
        logging_strategy="steps", eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, seed=17,
    )
    trainer = Trainer(model, args, train_dataset=Pairs(72, 0), eval_dataset=Pairs(16, 1), callbacks=[Printer()])
    trainer.remove_callback(next(c for c in trainer.callback_handler.callbacks if type(c).__name__ == "PrinterCallback"))
    trainer.train()
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, os.path.join(out, "model.pt"))


if __name__ == "__main__":
    main()
