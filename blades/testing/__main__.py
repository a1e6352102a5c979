"""``python -m blades.testing``: the local server as a process."""

from blades.testing._server import main

raise SystemExit(main())
