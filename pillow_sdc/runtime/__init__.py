"""The affairs of the process: threads, forks, lazy values, imported libraries, the state of torch."""
