"""The whole pipeline as a Ray job, from prompts to the report; submitted again, it goes on where it stopped.

    ray job submit --working-dir . -- python jobs/run.py RECIPE [key=value ...] --root FOLDER

Exit code 0: succeeded, 1: failed, 2: wrong usage, 130: stopped. `FOLDER/<recipe name>/status.json` says the same,
with the stage and the error.
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("run")
