import { describe, expect, it } from "vitest";
import { remedy } from "../src/remedies";

describe("remedy", () => {
  it.each([
    ["the loss ends in SumBackward0, which this version does not read", "torch.nn.functional"],
    ["the loss is a vector: it was not reduced", "mean()"],
    ["the loss has 640 rows for a batch of 64: they are not samples", "first axis"],
    ["its tensors are saved through a hook (checkpointing, offloading), not to be run twice", "checkpoint()"],
    ["samples have no index: the script uses no DataLoader", "DataLoader"],
    ["samples have no index: a collate_fn of the script's own may reorder or drop samples", "default collate_fn"],
    ["samples have no index: the loss's target is not a tensor of a batch (it was copied or computed)", "as the loader gave it"],
    ["samples have no index: the loader's indices are not integers", "__getitem__"],
  ])("knows what to do about: %s", (reason, part) => {
    expect(remedy(reason)).toContain(part);
  });

  it("invents none for what it does not know", () => {
    expect(remedy("something new")).toBe("");
  });
});
