# The object store of the builtin stack: the same program, so the same layers.
ARG BASE
FROM ${BASE}
ENTRYPOINT ["/usr/local/bin/a9s", "agent"]
