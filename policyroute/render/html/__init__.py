"""A simulation's result as one self-contained HTML file: no scripts, no network, light and dark, for screens and paper.

Charts are drawn while the file is made, by altair and vl-convert (the extra `report`), and stand in the page as SVG.
"""

from policyroute.render.html.charts import ReportExtraError as ReportExtraError
from policyroute.render.html.charts import require as require
from policyroute.render.html.page import page as page
