"""python -m gpvae_core"""

from gpvae_core.cli import main

if __name__ == "__main__":
    main()
