"""python -m gpvae_core"""

import sys

from gpvae_core.errors import InputError
from gpvae_core.extras import extras

if __name__ == "__main__":
    try:
        with extras():
            from gpvae_core.cli import main
    except InputError as error:
        sys.exit(f"error: {error}")
    main()
