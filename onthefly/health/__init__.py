"""Health checks of a training: each looks at one thing, gives a verdict, the numbers, and what to do."""
