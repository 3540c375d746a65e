"""Agreement of predictions with MOS: coefficients, their bootstrap intervals, paired tests."""
