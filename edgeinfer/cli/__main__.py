"""`python -m edgeinfer.cli`: the command line without its script."""

from edgeinfer.cli import main

if __name__ == "__main__":
    main()
