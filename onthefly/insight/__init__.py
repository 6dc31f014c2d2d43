"""What a paused script's model is asked: tests, scans, embeddings, by steps that reproduce the script's own."""
