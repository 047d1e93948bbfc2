# The image of walbridge: the static binary and certificates, nothing else. There is
# no shell in it; the program is its own health check (`walbridge status`).
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/walbridge ./cmd/walbridge
RUN mkdir -p /out/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/walbridge /walbridge
# The working directory: where walbridge.yaml is looked for, and where the sinks stdout
# and discard keep their state. Mount the file, or name it in WALBRIDGE_CONFIG.
COPY --from=build --chown=65532:65532 /out/state /var/lib/walbridge
WORKDIR /var/lib/walbridge
# Where .pgpass is looked for, since the user has no entry in a passwd file.
ENV HOME=/var/lib/walbridge USER=walbridge
USER 65532:65532
# Reachable only where http.listen is not on a loopback address of the container.
EXPOSE 8480
STOPSIGNAL SIGTERM
ENTRYPOINT ["/walbridge"]
CMD ["run"]
