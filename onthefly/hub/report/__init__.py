"""A report: one HTML file of a run that needs no server, no network and no script."""
