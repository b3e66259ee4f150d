"""``python -m evorec`` is the command line."""

from evorec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
