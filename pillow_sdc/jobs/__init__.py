"""Jobs: many pictures from one store to another, planned as tasks, done by workers, resumed where they ended.

:mod:`.planning` makes the tasks, :mod:`.worker` does one, :mod:`.executors` have them done, :mod:`.progress` counts
what is done, :mod:`.manifest` keeps the result of each picture, and :mod:`.runner` holds it all together.
"""
