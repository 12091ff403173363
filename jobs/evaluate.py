"""One stage as a Ray job: every arm's answers to the held-out prompts.

ray job submit --working-dir . -- python jobs/evaluate.py RECIPE [key=value ...] --root FOLDER
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("evaluate")
