"""What to vary and where to run it: sweep files, plans, runners, results folders and the command line."""
