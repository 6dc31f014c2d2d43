"""The container of checkpoints and sessions: manifest with hashes, safetensors, tagged JSON. It knows no torch."""
