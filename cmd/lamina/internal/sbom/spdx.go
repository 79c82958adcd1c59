package sbom

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// PredicateType is what an attestation of a [Document] is called.
const PredicateType = "https://spdx.dev/Document"

// The types have the form of an SPDX document in JSON (SPDX 2.3).

type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []spdxPackage  `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  time.Time `json:"created"`
	Creators []string  `json:"creators"`
}

type spdxPackage struct {
	ID               string        `json:"SPDXID"`
	Name             string        `json:"name"`
	Version          string        `json:"versionInfo,omitempty"`
	DownloadLocation string        `json:"downloadLocation"`
	FilesAnalyzed    bool          `json:"filesAnalyzed"`
	LicenseConcluded string        `json:"licenseConcluded"`
	LicenseDeclared  string        `json:"licenseDeclared"`
	LicenseComments  string        `json:"licenseComments,omitempty"`
	Copyright        string        `json:"copyrightText"`
	Refs             []externalRef `json:"externalRefs,omitempty"`
	Purpose          string        `json:"primaryPackagePurpose,omitempty"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	rootID      = "SPDXRef-Image"
	noAssertion = "NOASSERTION"
)

// Document writes packages as an SPDX document in JSON: they are what the image
// called name contains. tool is who found them out, and when.
func Document(name string, packages []Package, tool string, when time.Time) ([]byte, error) {
	list, err := json.Marshal(packages)
	if err != nil {
		return nil, err
	}
	d := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: documentID, Name: name,
		// It has to be one of its own, and no more: nothing needs to be there.
		Namespace: "https://spdx.org/spdxdocs/lamina-" + digest.FromBytes(append(list, name...)).Encoded(),
		Creation:  creation{when.UTC().Truncate(time.Second), []string{"Tool: " + tool}},
		Packages:  []spdxPackage{newPackage(rootID, Package{Name: name})},
		Relationships: []relationship{
			{documentID, "DESCRIBES", rootID},
		},
	}
	d.Packages[0].Purpose = "CONTAINER"
	for i, p := range packages {
		id := fmt.Sprintf("SPDXRef-Package-%d", i+1)
		d.Packages = append(d.Packages, newPackage(id, p))
		d.Relationships = append(d.Relationships, relationship{rootID, "CONTAINS", id})
	}
	return json.Marshal(d)
}

// newPackage describes p. What a database calls a license is not always an SPDX
// expression, so it is a comment.
func newPackage(id string, p Package) spdxPackage {
	s := spdxPackage{
		ID: id, Name: p.Name, Version: p.Version, LicenseComments: p.License,
		DownloadLocation: noAssertion, LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
	}
	if p.URL != "" {
		s.Refs = []externalRef{{"PACKAGE-MANAGER", "purl", p.URL}}
	}
	return s
}
