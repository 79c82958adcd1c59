package builds

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// A document is a build as it is stored:
//
//	lamina-build-1 <sha256 of the rest, in hex>\n
//	<the Build, as JSON>
//
// It is replaced by renaming, and not synced: what a power failure tears does not
// verify.
const documentMagic = "lamina-build-1 "

// documentVersion is [Build.Version]. A document of another one is not read.
const documentVersion = 1

var (
	errTorn    = errors.New("it is not what was written")
	errVersion = errors.New("it was written by another version of lamina")
)

func encodeDocument(b *Build) ([]byte, error) {
	doc := bytes.NewBuffer(make([]byte, documentHead, 4096))
	enc := json.NewEncoder(doc)
	enc.SetEscapeHTML(false) // "&&" is to be found by grep
	if err := enc.Encode(b); err != nil {
		return nil, fmt.Errorf("encode build: %w", err)
	}
	data := doc.Bytes()
	sum := sha256.Sum256(data[documentHead:])
	copy(data, documentMagic)
	hex.Encode(data[len(documentMagic):], sum[:])
	data[documentHead-1] = '\n'
	return data, nil
}

// documentHead is the number of bytes before the JSON.
const documentHead = len(documentMagic) + 2*sha256.Size + 1

// documentBody verifies a document and returns the JSON in it.
func documentBody(data []byte) ([]byte, error) {
	if len(data) < documentHead || !bytes.HasPrefix(data, []byte(documentMagic)) {
		return nil, errTorn
	}
	body := data[documentHead:]
	sum := sha256.Sum256(body)
	if hex.EncodeToString(sum[:]) != string(data[len(documentMagic):documentHead-1]) {
		return nil, errTorn
	}
	return body, nil
}

// decodeDocument decodes a document into v, which is as much of a Build as the
// caller needs to know.
func decodeDocument(data []byte, v any) error {
	body, err := documentBody(data)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(body, fmt.Appendf(nil, `{"v":%d,`, documentVersion)) {
		return errVersion
	}
	return json.Unmarshal(body, v)
}
