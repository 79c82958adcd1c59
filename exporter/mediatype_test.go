package exporter

import "testing"

func TestConvertLayerType(t *testing.T) {
	for _, tc := range []struct{ oci, docker string }{
		{"application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"},
		{"application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		{"application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.zstd"},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar"},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
		{"application/vnd.in-toto+json", "application/vnd.in-toto+json"}, // no layer's
		{"application/vnd.oci.image.layer.v1.tarball", "application/vnd.oci.image.layer.v1.tarball"},
	} {
		for _, from := range []string{tc.oci, tc.docker} {
			if got := convertLayerType(from, true); got != tc.docker {
				t.Errorf("docker's for %s = %s, want %s", from, got, tc.docker)
			}
			if got := convertLayerType(from, false); got != tc.oci {
				t.Errorf("OCI's for %s = %s, want %s", from, got, tc.oci)
			}
		}
	}
}

func TestIsForeign(t *testing.T) {
	for mediaType, want := range map[string]bool{
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": true,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            false,
		"application/vnd.oci.image.config.v1+json":                     false,
	} {
		if got := isForeign(mediaType); got != want {
			t.Errorf("isForeign(%s) = %v", mediaType, got)
		}
	}
}
