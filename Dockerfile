# One static binary in an empty image.
#
#   docker build -t rp2pd .
#   docker run --rm -v p2pd:/run/p2pd -p 4001:4001 -p 4001:4001/udp rp2pd \
#       -hostAddrs=/ip4/0.0.0.0/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1

# The whole name: buildah and podman ask no registry that is not named.
FROM docker.io/library/rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Naming the target keeps the flags away from build scripts and procedural macros. Without
# the second flag a static program finds its random numbers only where there is a /dev.
RUN host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
       cargo build --locked --release --bin rp2pd --target "$host" \
    && install -D "target/$host/release/rp2pd" /out/rp2pd \
    && ln -s rp2pd /out/p2pd \
    && install -d -o 65532 -g 65532 -m 0750 /run-p2pd

FROM scratch
COPY --from=build /out/ /
COPY --from=build --chown=65532:65532 /run-p2pd /run/p2pd
USER 65532:65532
VOLUME /run/p2pd
STOPSIGNAL SIGTERM
EXPOSE 4001/tcp 4001/udp
HEALTHCHECK --interval=30s --timeout=6s --start-period=2s \
    CMD ["/rp2pd", "-healthcheck", "-listen=/unix/run/p2pd/p2pd.sock"]
ENTRYPOINT ["/rp2pd", "-listen=/unix/run/p2pd/p2pd.sock", "-stayAlive", "-id=/run/p2pd/identity", "-createIdentity"]
