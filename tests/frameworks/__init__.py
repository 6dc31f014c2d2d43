"""Frameworks, real packages and unmodified scripts: what is captured of them, against brute force from outside."""
