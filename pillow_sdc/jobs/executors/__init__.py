"""What has the tasks of a job done: processes of this machine, or a Ray cluster."""
