"""From files to samples: reads, checks, splits and preprocesses a dataset. NumPy, Arrow and Pillow; never torch.

A dataset is loaded (`dataset`) from a table (`table`), an archive of arrays (`archive`), a folder of images (`images`)
or Parquet (`row_groups`), which is streamed (`streaming`, `windows`) where it does not fit into memory. What is done to
the features (`preprocessing`) is fitted on the training split alone (`preparing`); with it, a checkpoint alone can
score raw rows (`raw`).

What is found wrong is said as a user would: file, row and column. Rows are counted as a spreadsheet counts them: in a
CSV file the header is row 1, elsewhere the first sample is.
"""
