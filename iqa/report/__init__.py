"""The report of a study, and the claims of the documents that it settles."""
