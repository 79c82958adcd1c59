# A minimal Debian: the archive that mmdebstrap made.
FROM scratch
ADD debian.tar /
# What this machine trusts: a proxy between it and the package registries may
# have a certificate of its own.
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
CMD ["bash"]
