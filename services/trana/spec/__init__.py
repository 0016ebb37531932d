"""What a valid job is, and how one is read from YAML: pure rules that every room shares.

Not here: anything that opens a socket, a dataset, a database or a tensor.
"""
