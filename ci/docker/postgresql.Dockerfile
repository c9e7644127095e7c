# A PostgreSQL server with its agent: the same entrypoint and environment as the embedded cluster's image of this name.
# It starts from an image of the program, as the operators' is one: nodes get what both have once.
# Where the server is there already, nothing is installed, so that it can be built without a network.
ARG BASE
FROM ${BASE}
ARG MAJOR=15
USER 0:0
RUN if [ ! -x /usr/lib/postgresql/${MAJOR}/bin/postgres ]; then \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-${MAJOR}; \
    fi && \
    rm -rf /var/lib/postgresql/${MAJOR} /etc/postgresql && \
    # A kubelet that is told runAsNonRoot wants a number, and initdb wants a name for it.
    groupmod --gid 999 postgres && usermod --uid 999 --gid 999 postgres && \
    install -d -o postgres -g postgres /home/postgres /home/postgres/pgdata && \
    # More than half of what was installed is for just-in-time compilation, which a server does without where its library is
    # not there (PostgreSQL manual, "Just-in-Time Compilation"), for Perl scripts of the distribution, and for installing
    # packages. It gets into no layer.
    rm -rf /usr/lib/postgresql/${MAJOR}/lib/bitcode /usr/lib/postgresql/${MAJOR}/lib/llvmjit* \
      /usr/lib/*-linux-gnu/libLLVM* /usr/lib/*-linux-gnu/libz3* /usr/lib/*-linux-gnu/perl /usr/share/perl \
      /usr/share/doc /usr/share/man /usr/share/i18n /var/lib/apt/lists /var/cache/apt
ENV PATH=/usr/lib/postgresql/${MAJOR}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    A9S_POSTGRESQL_MAJOR=${MAJOR} \
    A9S_POSTGRESQL_BIN=/usr/lib/postgresql/${MAJOR}/bin
USER 999:999
ENTRYPOINT ["/usr/local/bin/a9s", "agent"]
