"""What every step of a study shares: parameters, their files, results folders, and the identity of code."""
