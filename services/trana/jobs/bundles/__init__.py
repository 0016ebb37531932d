"""The users' code at rest: zip archives, checked, and kept by their content. Nothing of it is run or unpacked."""
