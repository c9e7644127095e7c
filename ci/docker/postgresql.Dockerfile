# A PostgreSQL server with its agent: the same entrypoint and environment as the embedded cluster's image of this name.
# Where the base has the server already, nothing is installed, so that it can be built without a network.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS installed
ARG MAJOR=15
RUN if [ ! -x /usr/lib/postgresql/${MAJOR}/bin/postgres ]; then \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-${MAJOR}; \
    fi && \
    # The authorities by which a store with TLS, such as AWS, is recognised.
    if [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ca-certificates; \
    fi && \
    rm -rf /var/lib/postgresql/${MAJOR} /etc/postgresql && \
    # A kubelet that is told runAsNonRoot wants a number, and initdb wants a name for it.
    groupmod --gid 999 postgres && usermod --uid 999 --gid 999 postgres && \
    install -d -o postgres -g postgres /home/postgres /home/postgres/pgdata && \
    # More than half of it is for just-in-time compilation, which a server does without where its library is not there
    # (PostgreSQL manual, "Just-in-Time Compilation"), for Perl scripts of the distribution, and for installing packages.
    rm -rf /usr/lib/postgresql/${MAJOR}/lib/bitcode /usr/lib/postgresql/${MAJOR}/lib/llvmjit* \
      /usr/lib/*-linux-gnu/libLLVM* /usr/lib/*-linux-gnu/libz3* /usr/lib/*-linux-gnu/perl /usr/share/perl \
      /usr/share/doc /usr/share/man /usr/share/i18n /var/lib/apt/lists /var/cache/apt

# What was removed is in no layer.
FROM scratch
ARG MAJOR=15
COPY --from=installed / /
COPY a9s /usr/local/bin/a9s
ENV PATH=/usr/lib/postgresql/${MAJOR}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    A9S_POSTGRESQL_MAJOR=${MAJOR} \
    A9S_POSTGRESQL_BIN=/usr/lib/postgresql/${MAJOR}/bin
USER 999:999
ENTRYPOINT ["/usr/local/bin/a9s", "agent"]
