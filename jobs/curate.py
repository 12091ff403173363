"""One stage as a Ray job: the distilled set, from the answers.

ray job submit --working-dir . -- python jobs/curate.py RECIPE [key=value ...] --root FOLDER
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("curate")
