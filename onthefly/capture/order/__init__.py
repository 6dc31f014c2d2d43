"""Whether the rows of a batch come in the order of its items: proven from the code that makes batches, or doubted."""
