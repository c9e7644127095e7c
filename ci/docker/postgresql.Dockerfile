# A PostgreSQL server with its agent: the same entrypoint and environment as the embedded cluster's image of this name.
# Where the base has the server already, nothing is installed, so that it can be built without a network.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
ARG MAJOR=15
RUN if [ ! -x /usr/lib/postgresql/${MAJOR}/bin/postgres ]; then \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-${MAJOR} && \
      rm -rf /var/lib/apt/lists/*; \
    fi && \
    rm -rf /var/lib/postgresql/${MAJOR} /etc/postgresql && \
    # A kubelet that is told runAsNonRoot wants a number, and initdb wants a name for it.
    groupmod --gid 999 postgres && usermod --uid 999 --gid 999 postgres && \
    install -d -o postgres -g postgres /home/postgres /home/postgres/pgdata
# The authorities by which a store with TLS, such as AWS, is recognised.
RUN if [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ca-certificates && \
      rm -rf /var/lib/apt/lists/*; \
    fi
COPY a9s /usr/local/bin/a9s
ENV PATH=/usr/lib/postgresql/${MAJOR}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    A9S_POSTGRESQL_MAJOR=${MAJOR} \
    A9S_POSTGRESQL_BIN=/usr/lib/postgresql/${MAJOR}/bin
USER 999:999
ENTRYPOINT ["/usr/local/bin/a9s", "agent"]
