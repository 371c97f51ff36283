"""`python -m policyroute`."""

from policyroute.cli import main

if __name__ == "__main__":
    main()
