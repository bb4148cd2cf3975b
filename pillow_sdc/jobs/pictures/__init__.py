"""Pictures in files of other formats: told apart, opened with their metadata, and saved.

Modules import at their top the standard library and each other alone, for the command line's sake.
"""
