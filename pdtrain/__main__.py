import sys

from pdtrain.cli import main

sys.exit(main())
