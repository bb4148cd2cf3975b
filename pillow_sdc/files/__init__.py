"""Pictures in files of all formats, alone and in shards, here and in object stores.

Modules import at their top the standard library and each other alone, for the command line's sake.
"""
