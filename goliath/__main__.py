"""``python -m goliath``: the same as the ``goliath`` command."""

from __future__ import annotations

import sys

from goliath.cli import main

sys.exit(main())
