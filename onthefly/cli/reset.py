"""``onthefly reset SESSION``: back to the beginning, as a new run: in place, or by starting the script anew."""

from __future__ import annotations

from onthefly.cli import ctl, words
from onthefly.cli.resume import checked_over, going_on, lives, look_up, runs, take_up
from onthefly.core import expected, start
from onthefly.core.introduction import RUN
from onthefly.errors import Refused
from onthefly.link.client import Client
from onthefly.settings import Settings


def main(argv: list[str]) -> int:
    """Have a script that runs go back; of a session that has ended, become its script."""
    parser = words.Parser(prog="onthefly reset", description="Go back to the beginning, as a new run.")
    parser.add_argument("session", help="id, unique prefix, or last")
    options, settings = parser.parse_args(argv[1:]), Settings()
    with Client(settings, start=True) as client:
        session = look_up(client, options.session)
        identifier = session["id"]
        if lives(session):
            return ctl.main(["ctl", identifier, "reset"])
        checked_over(session)
        of_session = settings.data_dir / "sessions" / identifier
        if not (of_session / start.NAME).is_file():
            raise Refused(f"how session {identifier} began is not recorded", "start its script anew, in a new session")
        recorded = client.json(f"sessions/{identifier}/runs")["runs"]
        first = recorded[0]["name"] if recorded else RUN  # the script may have given it another name
        taken = runs(client, session)
        origin = expected.Origin(identifier, first, 0, 0, "")
        given = going_on(client, of_session, origin, expected.first_free(expected.RESET, taken), taken)
    return take_up(session, of_session, given, (), {})
