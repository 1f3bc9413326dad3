import sys

from tools.website.build import main

sys.exit(main())
