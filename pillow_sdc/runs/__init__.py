"""Runs over many pictures, from one store to another: planned as tasks, done by workers, resumed where they ended.

:mod:`.planning` makes the tasks, :mod:`.work` does one, :mod:`.serial_engine`, :mod:`.local_engine` and
:mod:`.ray_engine` have them done, :mod:`.progress` counts what is done, :mod:`.manifest` keeps the result of each
picture, and :mod:`.running` holds it all together.
"""
