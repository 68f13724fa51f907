"""`python -m navarch`."""

from navarch import cli

if __name__ == "__main__":
    cli.main()
