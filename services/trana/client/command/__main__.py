"""`python -m trana.client.command`: the command, for where its script is not on the path."""

from trana.client.command.app import main

main()
