# The operators of the builtin stack, as a pod. The program is built outside and copied: no compiler, no network.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
# The authorities by which a store with TLS, such as AWS, is recognised.
RUN if [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ca-certificates && \
      rm -rf /var/lib/apt/lists/*; \
    fi
COPY a9s /usr/local/bin/a9s
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/a9s"]
