"""python -m cdlib.records"""

import sys

from cdlib.records.command import main

sys.exit(main())
