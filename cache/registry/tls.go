package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tlsConfig returns what is special about TLS with a registry, nil if nothing is.
// Its certificates are where docker and podman keep them, in
//
//	/etc/docker/certs.d/<registry>/
//	/etc/containers/certs.d/<registry>/
//	$XDG_CONFIG_HOME/containers/certs.d/<registry>/     or ~/.config
//
// *.crt are further authorities; x.cert and x.key are our certificate and its key.
func (c *Client) tlsConfig(registry string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: insecure} //nolint:gosec // the user asked for it
	special := insecure
	for _, dir := range c.certDirs() {
		dir = filepath.Join(dir, registry)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("certificates: %w", err)
		}
		for _, e := range entries {
			used, err := addCertificate(config, filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("certificates: %w", err)
			}
			special = special || used
		}
	}
	if !special {
		return nil, nil
	}
	return config, nil
}

func (c *Client) certDirs() []string {
	dirs := []string{"/etc/docker/certs.d", "/etc/containers/certs.d"}
	config := c.opt.Getenv("XDG_CONFIG_HOME")
	if home := c.opt.Getenv("HOME"); config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	if config != "" {
		dirs = append(dirs, filepath.Join(config, "containers/certs.d"))
	}
	return dirs
}

// addCertificate adds what is in a file of certs.d, going by its name.
func addCertificate(config *tls.Config, file string) (bool, error) {
	switch filepath.Ext(file) {
	case ".crt":
		pem, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		if config.RootCAs == nil {
			// The system's authorities stay good; they are read only now, because
			// that takes time.
			pool, err := x509.SystemCertPool()
			if err != nil {
				pool = x509.NewCertPool()
			}
			config.RootCAs = pool
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return false, fmt.Errorf("no certificate in %s", file)
		}
		return true, nil
	case ".cert":
		pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".cert")+".key")
		if err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		config.Certificates = append(config.Certificates, pair)
		return true, nil
	}
	return false, nil
}
