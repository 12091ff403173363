"""One stage as a Ray job: the distilled model.

ray job submit --working-dir . -- python jobs/train.py RECIPE [key=value ...] --root FOLDER
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("train")
