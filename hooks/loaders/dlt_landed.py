"""dlt: tell sao-events what a pipeline has loaded, in its own code. SAO_DLT_URL is https://<host>/webhooks/<name>/<secret>.

    pipeline.run(source())
    landed(pipeline)

Without any code: set RUNTIME__DLTHUB_DSN to the same address, and dlt sends it by itself.
"""

import os
import urllib.request

from dlt.common.json import json


def landed(pipeline):
    """Post the trace of the last run. Raises URLError where it is not taken."""
    body = json.dumps(pipeline.last_trace.asdict()).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["SAO_DLT_URL"], data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10):
        pass
