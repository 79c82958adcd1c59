package sbom

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lamina/snapshot"
	"lamina/snapshot/fileset"
)

func tree(files map[string]string) snapshot.Tree {
	var all []fileset.MemoryFile
	for name, data := range files {
		all = append(all, fileset.MemoryFile{Name: name, Mode: 0o644, Data: []byte(data)})
	}
	return fileset.Memory(all...)
}

func TestFind(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  []Package
	}{
		{"nothing", map[string]string{"bin/sh": "x"}, nil},
		{"debian", map[string]string{
			"etc/os-release": "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_ID=\"12\"\n",
			"var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u1\nDescription: a\n library\n .\n" +
				"\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: a\nStatus: install ok installed\nVersion: 1:2~3\nArchitecture: all",
		}, []Package{
			{Name: "a", Version: "1:2~3", URL: "pkg:deb/debian/a@1:2~3?arch=all&distro=debian-12"},
			{Name: "libc6", Version: "2.36-9+deb12u1", URL: "pkg:deb/debian/libc6@2.36-9+deb12u1?arch=amd64&distro=debian-12"},
		}},
		{"without dpkg", map[string]string{
			"var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12\n", "var/lib/dpkg/status.d/base.md5sums": "Package: no\nVersion: 1\n",
		}, []Package{{Name: "base-files", Version: "12", URL: "pkg:deb/debian/base-files@12"}}},
		{"alpine", map[string]string{
			"usr/lib/os-release":   "ID=alpine\nVERSION_ID=3.20.1\n",
			"lib/apk/db/installed": "C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nC:Q1y\nP:busybox\nV:1.36\nA:x86_64\nL:GPL-2.0-only\n\n",
		}, []Package{
			{"busybox", "1.36", "GPL-2.0-only", "pkg:apk/alpine/busybox@1.36?arch=x86_64&distro=alpine-3.20.1"},
			{"musl", "1.2.5-r0", "MIT", "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1"},
		}},
		{"npm", map[string]string{
			"app/package.json":                           `{"name":"mine","version":"1.0.0"}`,
			"app/node_modules/left-pad/package.json":     `{"name":"left-pad","version":"1.3.0","license":"WTFPL"}`,
			"app/node_modules/@a/b/package.json":         `{"name":"@a/b","version":"2.0.0","license":{"type":"x"}}`,
			"app/node_modules/left-pad/lib/package.json": `{"name":"inner","version":"1"}`,
			"app/node_modules/broken/package.json":       `{`,
			"again/node_modules/left-pad/package.json":   `{"name":"left-pad","version":"1.3.0","license":"WTFPL"}`,
		}, []Package{
			{Name: "@a/b", Version: "2.0.0", URL: "pkg:npm/%40a/b@2.0.0"},
			{"left-pad", "1.3.0", "WTFPL", "pkg:npm/left-pad@1.3.0"},
		}},
	} {
		got, err := Find(t.Context(), tree(tc.files))
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tc.name, err, diff)
		}
	}
}

func TestFindRefusesDamage(t *testing.T) {
	_, err := Find(t.Context(), tree(map[string]string{"var/lib/dpkg/status": "Package: " + strings.Repeat("x", 2<<20)}))
	if err == nil || !strings.HasPrefix(err.Error(), "read /var/lib/dpkg/status: ") {
		t.Errorf("error %v", err)
	}
}

func TestDocument(t *testing.T) {
	when := time.Unix(1000, 5)
	packages := []Package{{"musl", "1.2.5", "MIT", "pkg:apk/alpine/musl@1.2.5"}}
	data, err := Document("app", packages, "lamina-1", when)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Document("app", packages, "lamina-1", when)
	if err != nil || string(again) != string(data) {
		t.Error("the same packages make two documents")
	}
	var d struct {
		SpdxVersion, DocumentNamespace string
		CreationInfo                   struct{ Created string }
		Packages                       []struct {
			SPDXID, Name, VersionInfo string
			ExternalRefs              []struct{ ReferenceLocator string }
		}
		Relationships []struct{ SpdxElementID, RelationshipType, RelatedSpdxElement string }
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.SpdxVersion != "SPDX-2.3" || d.CreationInfo.Created != "1970-01-01T00:16:40Z" || !strings.HasPrefix(d.DocumentNamespace, "https://") {
		t.Errorf("%s", data)
	}
	if len(d.Packages) != 2 || d.Packages[1].Name != "musl" || d.Packages[1].ExternalRefs[0].ReferenceLocator != packages[0].URL {
		t.Errorf("packages %+v", d.Packages)
	}
	if len(d.Relationships) != 2 || d.Relationships[1].RelatedSpdxElement != d.Packages[1].SPDXID {
		t.Errorf("relationships %+v", d.Relationships)
	}
}
