package layer

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"
)

// The info of a layer is a line of JSON and one with the digest of that. What it says
// gets into images, and nothing else would notice that a digit has changed. Older
// ones have only the first line.
const infoName = "info.json"

var errInfoDamaged = errors.New("its info.json is damaged")

func encodeInfo(info Info) ([]byte, error) {
	data, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	return append(append(data, '\n'), digest.FromBytes(data).String()+"\n"...), nil
}

func decodeInfo(b []byte) (info Info, err error) {
	data, sum, _ := bytes.Cut(b, []byte("\n"))
	if len(sum) > 0 && string(sum) != digest.FromBytes(data).String()+"\n" {
		return info, errInfoDamaged
	}
	if json.Unmarshal(data, &info) != nil {
		return Info{}, errInfoDamaged
	}
	return info, nil
}
