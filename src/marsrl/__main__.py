"""`python -m marsrl` is `marsrl`."""

from marsrl.cli import main

if __name__ == "__main__":
    main()
