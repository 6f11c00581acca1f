"""A module that does at import what modules do."""

import os
import time
import uuid

NAME = "asks"
LOADED = time.time(), os.environ.get("HOME"), uuid.uuid4()
