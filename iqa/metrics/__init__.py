"""Agreement of predictions with MOS: coefficients, their bootstrap intervals, and paired tests."""
