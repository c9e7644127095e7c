# The object store of the builtin stack.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY a9s /usr/local/bin/a9s
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/a9s", "object-store"]
