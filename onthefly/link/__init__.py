"""The agent's side of the wire: how a hub is found and proven, frames, the bounded queue and its writer thread."""
