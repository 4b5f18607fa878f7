"""`python -m app.cli`: the same as `bankstream`."""

from app.cli.main import main

main()
