"""One stage as a Ray job: report.json, report.md and report.html.

ray job submit --working-dir . -- python jobs/report.py RECIPE [key=value ...] --root FOLDER
"""

from s2d_ray.cli import main

if __name__ == "__main__":
    main("report")
