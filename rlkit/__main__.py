"""``python -m rlkit`` is ``rlkit``."""

from rlkit.cli import main

if __name__ == "__main__":
    main()
