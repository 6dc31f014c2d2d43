"""What looks for trouble in the numbers: one file for each watchdog, and a table of them."""
