"""Where every page and text comes from: the package's templates, with one stylesheet and one way of writing numbers."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from s2d_ray.display import charts
from s2d_ray.display.formatting import FILTERS, times


def environment(escape: bool = True) -> Environment:
    """All templates by their path in this package, such as `report/report.html.j2`.

    `escape` where HTML comes out, so that whatever is filled in stays text. A name that is not given is an error.
    """
    found = Environment(
        loader=PackageLoader("s2d_ray", ""),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= FILTERS
    found.globals |= {"times": times, "box": charts}
    return found
