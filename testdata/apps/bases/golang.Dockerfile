# This machine's own Go on Debian; the context is GOROOT.
ARG REGISTRY=docker.io/library
FROM ${REGISTRY}/debian:bookworm
ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:$PATH
COPY . /usr/local/go
WORKDIR $GOPATH
