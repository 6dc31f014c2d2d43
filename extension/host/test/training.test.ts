import { describe, expect, it } from "vitest";
import { trainingLine } from "../src/training";

const LOOP = "for batch in loader:\n    loss = f(batch)\n    loss.backward()\n";

describe("trainingLine", () => {
  it.each([
    ["a main block", 'import torch\n\nif __name__ == "__main__":\n    main()\n', 2],
    ["one with single quotes, the other way round", "import torch\nif '__main__' == __name__:\n    main()\n", 1],
    ["a loop at the top", `import torch\nx = 1\n${LOOP}`, 2],
    ["nested loops", `from torch import nn\nfor epoch in range(3):\n    ${LOOP.replaceAll("\n", "\n    ")}\nprint(1)\n`, 1],
    ["a while loop that steps", "import torch\nwhile True:\n    opt.step()\n", 1],
    ["Lightning's fit", "import lightning as L\ntrainer = L.Trainer(max_epochs=1)\ntrainer.fit(model)\n", 2],
    ["the old Lightning", "from pytorch_lightning import Trainer\nTrainer().fit(model)\n", 1],
    ["torch imported with others", "import os, torch\nif __name__ == '__main__':\n    main()\n", 1],
    ["torch imported late", "def main():\n    import torch.nn\n\nif __name__ == '__main__':\n    main()\n", 3],
    ["lines of Windows", "import torch\r\nif __name__ == '__main__':\r\n    main()\r\n", 1],
    ["a comment at the left edge inside of the loop", "import torch\nfor b in d:\n    f(b)\n# so\n    loss.backward()\n", 1],
  ])("finds %s", (_, text, line) => {
    expect(trainingLine(text)).toBe(line);
  });

  it.each([
    ["no torch", `import numpy\n${LOOP}`],
    ["torch in a text", `"""\nimport torch\n"""\n${LOOP}`],
    ["torch in a comment", `# import torch\n${LOOP}`],
    ["another module of that beginning", `import torchvision\n${LOOP}`],
    ["a module alone", "import torch\n\nclass Net(torch.nn.Module):\n    def step(self):\n        for b in d:\n            loss.backward()\n"],
    ["a loop that trains nothing", "import torch\nfor x in y:\n    print(x)\nloss.backward()\n"],
    ["fit of something else", "import torch\nscaler.fit(x)\n"],
    ["nothing", ""],
    ["a quote that is never closed", 'import torch\nx = "for\n'],
  ])("finds nothing in %s", (_, text) => {
    expect(trainingLine(text)).toBeNull();
  });

  it("takes long files in its stride", () => {
    const start = performance.now();
    trainingLine(`import torch\n${'x = "a\\"b" + \'c\' # d\n'.repeat(50_000)}`);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});
