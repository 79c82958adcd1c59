package builds

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDocument(t *testing.T) {
	want := sample()
	want.Version = documentVersion
	data, err := encodeDocument(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Build
	if err := decodeDocument(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(data, []byte("make && make install")) {
		t.Error("what a step does cannot be found in the document by its text")
	}
}

func TestDocumentThatIsNotWhole(t *testing.T) {
	data, err := encodeDocument(sample())
	if err != nil {
		t.Fatal(err)
	}
	var b Build
	for n := range data {
		if err := decodeDocument(data[:n], &b); !errors.Is(err, errTorn) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(data), err)
		}
		flipped := bytes.Clone(data)
		flipped[n] ^= 1
		if err := decodeDocument(flipped, &b); !errors.Is(err, errTorn) && n != documentHead-1 {
			t.Fatalf("byte %d is another: %v", n, err)
		}
	}
	if err := decodeDocument(append(data, 0), &b); !errors.Is(err, errTorn) {
		t.Errorf("a byte more: %v", err)
	}
}

func TestDocumentOfAnotherVersion(t *testing.T) {
	b := sample()
	b.Version = documentVersion + 1
	data, err := encodeDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := decodeDocument(data, &Build{}); !errors.Is(err, errVersion) {
		t.Errorf("error is %v", err)
	}
}
