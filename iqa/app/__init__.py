"""The command `iqa`: new studies, runs and their graph, what is due and why, the playground."""
