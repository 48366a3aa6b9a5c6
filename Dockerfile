# Captions on the CPU. Written where there is no container runtime: this file has not been built yet.
#
#   docker build -t clipcap .
#   docker run --rm -v "$PWD:/here" clipcap infer photo.jpg
#
# For CUDA take nvidia/cuda:13.0.0-devel-ubuntu24.04 in both stages, `--features cuda`, and `docker run --gpus all`.
FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
ARG CLIPCAP_COMMIT=unknown
RUN cargo build --locked --release --no-default-features --features cli --bin clipcap

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /source/target/release/clipcap /usr/local/bin/
ENV CLIPCAP_HOME=/var/lib/clipcap HF_HOME=/var/lib/clipcap/hub
VOLUME /var/lib/clipcap
WORKDIR /here
ENTRYPOINT ["clipcap"]
