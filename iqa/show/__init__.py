"""Tables and figures: one module per step, data frames in. Nothing here opens a file of results."""
