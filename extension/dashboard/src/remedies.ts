// What to do where something was not captured: known reasons, each with its remedy.

const REMEDIES: [RegExp, string][] = [
  [/the loss ends in /, "Let backward() start at a loss of torch.nn.functional such as cross_entropy or mse_loss, scaled by plain numbers at most."],
  [/reduced twice/, "Reduce it once: reduction=\"mean\", or reduction=\"none\" and mean() or sum()."],
  [/is a vector: it was not reduced/, "Call mean() or sum() on the loss before backward()."],
  [/without a batch axis/, "Keep a batch axis of size 1: unsqueeze(0) on output and target."],
  [/they are not samples/, "Samples are told apart by the first axis of the target: it must be as long as the batch."],
  [/saved through a hook/, "Compute the loss outside of checkpoint() and save_on_cpu(); the model may stay inside."],
  [/CUDA graph/, "Train without CUDA graphs while you want to see samples."],
  [/freed by an earlier backward/, "Nothing is lost but these values: the first backward call of the graph was read."],
  [/changed in place/, "Do not change outputs or targets in place between the loss and backward()."],
  [/uses no DataLoader/, "Draw batches through torch.utils.data.DataLoader: each loss then has its sample's index."],
  [/collate_fn of the script's own/, "With the DataLoader's default collate_fn the order of samples is known."],
  [/not a tensor of a batch|view of the batch in another order/, "Hand the loss the target as the loader gave it, not a copy of it or something computed from it."],
  [/fetches whole batches/, "A dataset that gives samples one by one, by __getitem__ alone, has their order proven."],
  [/of a parameter \(a penalty\)/, "Nothing is lost: a penalty is of no sample."],
  [/profiler was on/, "Losses are read again when the profiler is off."],
  [/dispatch mode was active/, "Losses are read again outside of it."],
  [/inference mode/, "Fetch training batches outside of inference_mode()."],
  [/such losses were computed since/, "Call backward() soon after the loss is computed."],
  [/let go when it was back-propagated first/, "Nothing is lost but these values: the first backward call of the graph was read."],
  [/indices are not integers/, "A dataset with __getitem__ and __len__ gives each sample an index; a stream has none."],
  [/second thread trains/, "Let one thread of a process train; start further ones as processes."],
];

/** Empty if there is none. */
export function remedy(reason: string): string {
  return REMEDIES.find(([known]) => known.test(reason))?.[1] ?? "";
}
