# The operators of the builtin stack, as a pod. The program is built outside and copied: no compiler, no network.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
COPY a9s /usr/local/bin/a9s
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/a9s"]
