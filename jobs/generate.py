"""One stage as a Ray job: System 2's answers to every unlabelled prompt.

ray job submit --working-dir . -- python jobs/generate.py RECIPE [key=value ...] --root FOLDER
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("generate")
