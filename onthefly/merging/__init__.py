"""One model out of several: each strategy a row of :data:`onthefly.merging.table.STRATEGIES` and a file."""
