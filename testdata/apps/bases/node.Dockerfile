# This machine's own Node and npm on Debian; the context is what they are
# installed under. The libraries that Node needs are there: apt needs them, too.
ARG REGISTRY=docker.io/library
FROM ${REGISTRY}/debian:bookworm
COPY bin/node /usr/bin/
COPY lib/node_modules/npm /usr/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/bin/npx
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
CMD ["node"]
