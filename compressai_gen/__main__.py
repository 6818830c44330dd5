"""``python -m compressai_gen`` is `cgen`."""

from __future__ import annotations

import sys

from compressai_gen.cli.main import main

sys.exit(main())
