// Package sbom lists the software in an image: what the package databases of Debian,
// Alpine and their relatives say, and the packages of npm. It writes the list as an
// SPDX document. What came in any other way, such as programs that were compiled in
// the build, is not found.
package sbom

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"

	"lamina/snapshot"
)

// A Package is software with a name and a version.
type Package struct {
	Name, Version string
	// License is an SPDX expression; empty if it is not known.
	License string
	// URL is the package URL (package-url).
	URL string
}

// maxFile bounds the databases that are read, in bytes.
const maxFile = 256 << 20

// Find lists the packages in t, sorted by package URL.
func Find(ctx context.Context, t snapshot.Tree) ([]Package, error) {
	distro, err := readDistro(t)
	if err != nil {
		return nil, err
	}
	var all []Package
	for _, find := range []func(context.Context, snapshot.Tree, distribution) ([]Package, error){debian, alpine, npm} {
		found, err := find(ctx, t, distro)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b Package) int { return strings.Compare(a.URL, b.URL) })
	return slices.CompactFunc(all, func(a, b Package) bool { return a.URL == b.URL }), nil
}

// distribution is what the image says it is.
type distribution struct{ id, version string }

// readDistro reads os-release(5).
func readDistro(t snapshot.Tree) (distribution, error) {
	var d distribution
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		err := lines(t, name, func(line string) error {
			key, value, _ := strings.Cut(line, "=")
			value = strings.Trim(value, `"'`)
			switch key {
			case "ID":
				d.id = value
			case "VERSION_ID":
				d.version = value
			}
			return nil
		})
		if !errors.Is(err, fs.ErrNotExist) {
			return d, err
		}
	}
	return d, nil
}

// purl is the package URL of a distribution's package.
func (d distribution) purl(kind, fallback, name, version, arch string) string {
	id := d.id
	if id == "" {
		id = fallback
	}
	q := []string{}
	if arch != "" {
		q = append(q, "arch="+url.QueryEscape(arch))
	}
	if d.version != "" {
		q = append(q, "distro="+url.QueryEscape(id+"-"+d.version))
	}
	s := fmt.Sprintf("pkg:%s/%s/%s@%s", kind, id, url.PathEscape(name), url.PathEscape(version))
	if len(q) > 0 {
		s += "?" + strings.Join(q, "&")
	}
	return s
}

// debian reads dpkg's database: status, or status.d of images without dpkg.
func debian(_ context.Context, t snapshot.Tree, d distribution) ([]Package, error) {
	const dir = "var/lib/dpkg/status.d"
	names := []string{"var/lib/dpkg/status"}
	entries, err := list(t, dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name, ".md5sums") && e.Kind == snapshot.File {
			names = append(names, path.Join(dir, e.Name))
		}
	}
	var all []Package
	add := func(p map[string]string) {
		installed := p["Status"] == "" || strings.HasSuffix(p["Status"], " installed")
		if p["Package"] == "" || !installed {
			return
		}
		all = append(all, Package{
			Name: p["Package"], Version: p["Version"],
			URL: d.purl("deb", "debian", p["Package"], p["Version"], p["Architecture"]),
		})
	}
	for _, name := range names {
		if err := paragraphs(t, name, ": ", add); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return all, nil
}

// alpine reads apk's database.
func alpine(_ context.Context, t snapshot.Tree, d distribution) ([]Package, error) {
	var all []Package
	for _, name := range []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} {
		err := paragraphs(t, name, ":", func(p map[string]string) {
			if p["P"] == "" {
				return
			}
			all = append(all, Package{
				Name: p["P"], Version: p["V"], License: p["L"],
				URL: d.purl("apk", "alpine", p["P"], p["V"], p["A"]),
			})
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return all, nil
}

// npm reads the manifests of what is in directories called node_modules.
func npm(ctx context.Context, t snapshot.Tree, _ distribution) ([]Package, error) {
	var all []Package
	var visit func(dir string) error
	visit = func(dir string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := t.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(dir, e.Name)
			if e.Kind == snapshot.Dir {
				if err := visit(name); err != nil {
					return err
				}
			}
			if e.Name != "package.json" || e.Kind != snapshot.File || !isModule(dir) {
				continue
			}
			if p, ok := readManifest(t, name); ok {
				all = append(all, p)
			}
		}
		return nil
	}
	return all, visit(".")
}

// isModule tells whether dir is that of a package: node_modules/name, or
// node_modules/@scope/name.
func isModule(dir string) bool {
	parent := path.Dir(dir)
	if strings.HasPrefix(path.Base(parent), "@") {
		parent = path.Dir(parent)
	}
	return path.Base(parent) == "node_modules"
}

// readManifest reads a package.json; one that is none is not ours to complain of.
func readManifest(t snapshot.Tree, name string) (Package, bool) {
	r, err := t.Open(name)
	if err != nil {
		return Package{}, false
	}
	defer r.Close()
	var m struct {
		Name, Version string
		License       any
	}
	if err := json.NewDecoder(io.LimitReader(r, maxFile)).Decode(&m); err != nil || m.Name == "" || m.Version == "" {
		return Package{}, false
	}
	license, _ := m.License.(string)
	escaped := strings.Replace(url.PathEscape(m.Name), "%2F", "/", 1)
	escaped = strings.Replace(escaped, "@", "%40", 1)
	return Package{Name: m.Name, Version: m.Version, License: license, URL: "pkg:npm/" + escaped + "@" + url.PathEscape(m.Version)}, true
}

// list lists a directory, through links; nothing if there is none.
func list(t snapshot.Tree, name string) ([]snapshot.Entry, error) {
	name, err := snapshot.Resolve(t, name, true)
	if err != nil {
		return nil, nil // nothing that a database would be behind
	}
	entries, err := t.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// paragraphs calls fn for each paragraph of a file: the values of its lines by what
// stands before sep. Lines that continue others are left out.
func paragraphs(t snapshot.Tree, name, sep string, fn func(map[string]string)) error {
	p := map[string]string{}
	err := lines(t, name, func(line string) error {
		if line == "" {
			fn(p)
			p = map[string]string{}
			return nil
		}
		if key, value, ok := strings.Cut(line, sep); ok && line[0] != ' ' && line[0] != '\t' {
			p[key] = value
		}
		return nil
	})
	fn(p)
	return err
}

// lines calls fn for each line of a file, through links.
func lines(t snapshot.Tree, name string, fn func(string) error) error {
	resolved, err := snapshot.Resolve(t, name, true)
	if err != nil {
		return fs.ErrNotExist
	}
	r, err := t.Open(resolved)
	if err != nil {
		return err
	}
	defer r.Close()
	s := bufio.NewScanner(io.LimitReader(r, maxFile))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if err := fn(s.Text()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("read /%s: %w", name, err)
	}
	return nil
}
