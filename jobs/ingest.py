"""One stage as a Ray job: the prompts, read once and written with their ids.

ray job submit --working-dir . -- python jobs/ingest.py RECIPE [key=value ...] --root FOLDER
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("ingest")
