# One static binary, every role; runs as nobody with nothing else in the image.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=""
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.release=${VERSION}" -o /out/usr/bin/qstream ./cmd/qstream \
 && mkdir -p /out/var/lib/qstream/inbox /out/etc/ssl/certs /out/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && chmod 1777 /out/tmp && chown -R 65532:65532 /out/var/lib/qstream

FROM scratch
COPY --from=build /out/usr /usr
COPY --from=build /out/etc /etc
COPY --from=build /out/tmp /tmp
COPY --from=build --chown=65532:65532 /out/var /var
USER 65532:65532
WORKDIR /var/lib/qstream
EXPOSE 2525 8025
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["/usr/bin/qstream", "health"]
ENTRYPOINT ["/usr/bin/qstream"]
CMD ["--help"]
