"""The command line: arguments, what is printed, exit codes. Decides nothing about data."""
