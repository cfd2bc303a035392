"""The files of jobs are programs of users: pytest leaves them alone."""

collect_ignore = ["jobs.py", "made.py", "rude.py"]
