"""Scripts of the training libraries that are wound back."""

from __future__ import annotations

FRAMEWORKS: dict[str, str] = {
    "accelerate": """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
model = net()
opt = torch.optim.AdamW(model.parameters(), 1e-2)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=40)
model, opt, loader, sched = accelerator.prepare(model, opt, DataLoader(data(), 4, shuffle=True), sched)
WATCHED = [model]
for epoch in range(2):
    for i, (x, y) in enumerate(loader):
        with accelerator.accumulate(model):
            loss = F.cross_entropy(model(x), y)
            accelerator.backward(loss)
            opt.step()
            sched.step()
            opt.zero_grad()
        print(i, loss.item(), loader.end_of_dataloader)
""",
    "lightning": """
import logging
import lightning as L
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.seen = net(), []
    def training_step(self, batch, i):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        self.seen.append(loss.item())
        print(i, loss.item(), len(self.seen))
        return loss
    def validation_step(self, batch, i):
        x, y = batch
        self.log("val", F.cross_entropy(self.net(x), y))
    def configure_optimizers(self):
        opt = torch.optim.Adam(self.parameters(), 1e-2)
        return [opt], [{"scheduler": torch.optim.lr_scheduler.StepLR(opt, 3, 0.5), "interval": "step"}]
module = Module()
trainer = L.Trainer(
    max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, val_check_interval=6,
)
trainer.fit(module, DataLoader(data(), 4, shuffle=True), DataLoader(data(8), 4))
print(trainer.global_step, sum(module.seen), trainer.callback_metrics)
""",
    "transformers": """
import tempfile
from transformers import Trainer, TrainingArguments
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def forward(self, x, labels):
        out = self.net(x)
        loss = F.cross_entropy(out, labels)
        return {"loss": loss, "logits": out}
rows = [{"x": a, "labels": b} for a, b in data()]
given = TrainingArguments(
    tempfile.mkdtemp(), use_cpu=True, num_train_epochs=2, per_device_train_batch_size=4, report_to=[],
    save_strategy="no", logging_steps=5, disable_tqdm=True, log_level="error",
)
trainer = Trainer(Model(), given, train_dataset=rows)
import transformers
trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
done = trainer.train()
print([row.get("loss") for row in trainer.state.log_history], done.training_loss)
""",
    "skorch": """
from skorch import NeuralNetClassifier
class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def forward(self, x):
        return F.softmax(self.net(x), 1)
made = data(64)
classifier = NeuralNetClassifier(Module, max_epochs=2, batch_size=4, iterator_train__shuffle=True, verbose=0)
classifier.fit(made.tensors[0].numpy(), made.tensors[1].numpy())
print(classifier.history[:, "train_loss"], classifier.history[:, ("batches", "train_loss")])
""",
    "ignite": """
from ignite.engine import Events, create_supervised_trainer
model = net()
engine = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), 0.1), F.cross_entropy)
engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: print(e.state.iteration, e.state.output))
engine.run(DataLoader(data(), 4, shuffle=True), max_epochs=2)
""",
    "compile": """
model = net()
opt = torch.optim.SGD(model.parameters(), 0.1)
compiled = torch.compile(model, backend="eager")
WATCHED = [model]
for x, y in DataLoader(data(), 4, shuffle=True):
    opt.zero_grad()
    loss = F.cross_entropy(compiled(x), y)
    loss.backward()
    opt.step()
    print(loss.item())
""",
}
