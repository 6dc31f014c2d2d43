"""How two sides prove to each other that they read the same ``hub.json``, without sending the token.

On the agents' port, before the first frame, fixed lengths in turn: the agent sends ``MAGIC`` and a nonce of 32 bytes;
the hub answers with its own nonce and ``prove(token, b"hub", agent's, hub's)``; the agent sends
``prove(token, b"agent", agent's, hub's)``. Over HTTP, ``GET /healthz?nonce=<64 hex digits>`` answers with
``PROOF_HEADER: prove(token, b"healthz", nonce)`` in hex, so that a client can tell a hub from a squatter on its port
before it sends the token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

MAGIC = b"onthefly-agent-1"
NONCE_BYTES = 32
PROOF_BYTES = 32
PROOF_HEADER = "X-OnTheFly-Proof"


def nonce() -> bytes:
    """32 fresh random bytes (from the operating system: the script's generators are not touched)."""
    return secrets.token_bytes(NONCE_BYTES)


def prove(token: str, role: bytes, *nonces: bytes) -> bytes:
    """32 bytes that only a holder of the token can make for these nonces and this role."""
    return hmac.new(token.encode(), b"onthefly:" + role + b":" + b"".join(nonces), hashlib.sha256).digest()


def same(left: bytes, right: bytes) -> bool:
    """Compare without telling by the time taken how much was right."""
    return hmac.compare_digest(left, right)
