"""The command line: one file a command, one row each in the table of :mod:`onthefly.cli.main`."""
