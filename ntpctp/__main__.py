"""``python -m ntpctp`` is the ``ntpctp`` command."""

from ntpctp.cli import main

if __name__ == "__main__":
    main()
