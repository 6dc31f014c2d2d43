"""The other process: serves the dashboard, keeps the records, hands on commands. Never imported by the script's."""
