"""``python -m blades.testing``: the local server as a process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from blades.testing import Answer, LocalServer

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. The first line printed is the base URL."""
    import argparse  # only the command needs it
    import signal  # same

    parser = argparse.ArgumentParser(prog="python -m blades.testing", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--tls", action="store_true", help="print SSL_CERT_FILE=... as the second line")
    parser.add_argument("--pace", type=float, default=0.03, metavar="SECONDS", help="between two words")
    parser.add_argument("--api-key", help="refuse requests without this bearer key")
    parser.add_argument("--replay", metavar="FILE", help="answer with the bytes of this file: see Answer.recorded")
    options = vars(parser.parse_args(arguments))
    replay = options.pop("replay")
    try:
        default = Answer.recorded(replay) if replay is not None else None
    except OSError as error:
        parser.error(f"cannot read the recording: {error}")
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            server = LocalServer(default=default, **options)
        except (ImportError, OSError, OverflowError, ValueError) as error:  # trustme; the address; the port; the pace
            parser.error(str(error))
        with server:
            trust = f"\nSSL_CERT_FILE={server.certificate_file}" if options["tls"] else ""
            print(server.base_url + trust, flush=True)  # noqa: T201 - the command's output
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
