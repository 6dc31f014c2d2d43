"""One model, trained in every way that there is to be watched."""
