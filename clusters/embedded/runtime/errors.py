"""Why the runtime says no; the text is what the kubelet puts into the pod's events.

Place: raised by everything in this package, turned into gRPC status codes by `server.py`. The tree:

    RuntimeFault
    ├── NotFound       no such pod sandbox, container or image
    ├── Refused        the pod asks for what this runtime does not offer or does not allow, or not in this state
    ├── Exhausted      the node has no address left
    ├── StartFailed    the container's process did not come to run its program
    ├── TimedOut       a command in a container did not end in time
    └── Unavailable    a part of the node does not answer at the moment
"""

from clusters.api import ClusterError


class RuntimeFault(ClusterError):
    """The runtime could not do what the kubelet asked."""


class NotFound(RuntimeFault):
    """There is no such pod sandbox, container or image."""


class Refused(RuntimeFault):
    """The request is not offered, not allowed, or not possible in this state."""


class Exhausted(RuntimeFault):
    """The node has no pod address left."""


class StartFailed(RuntimeFault):
    """The container's program was not started."""


class TimedOut(RuntimeFault):
    """A command in a container did not end in time."""


class Unavailable(RuntimeFault):
    """A part of the node does not answer now and may do so later."""
