"""python -m cdlib.records"""

import sys

from cdlib.records.making import main

sys.exit(main())
