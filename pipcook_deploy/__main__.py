"""`python -m pipcook_deploy`."""

import sys

from pipcook_deploy.cli import main

sys.exit(main())
