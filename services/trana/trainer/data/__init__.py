"""From files to arrays: reads, checks and splits a dataset. Pure NumPy and Arrow; never torch.

What it finds wrong it says as a user would: file, row and column. Rows are counted as a spreadsheet counts them:
in a CSV file the header is row 1, in Parquet and NPZ the first sample is.
"""
